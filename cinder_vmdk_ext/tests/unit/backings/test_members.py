# SPDX-License-Identifier: Apache-2.0
"""What is watched: folders of volumes, instances and lone shadow VMs."""

import types
import unittest
from typing import Any

import hypothesis
from hypothesis import strategies
from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.backings import members
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

ID = '01234567-89ab-cdef-0123-456789abcdef'
LIST = references.Ref('ListView', 'list-1')


def vm(moref):
    return references.Ref('VirtualMachine', moref)


class FoldersTestCase(unittest.TestCase):

    TREE = {'root': ('vm', 'dc'), 'top': ('OpenStack', 'root'),
            'project': ('Project (p)', 'top'),
            'own': ('Volumes', 'project'), 'nova': ('Instances', 'project'),
            'images': ('Images', 'project'), 'inner': ('Snapshots', 'own')}

    def found(self, own='Volumes', **more):
        return members.volume_folders(self.TREE | more, own)

    def test_it_is_the_one_of_the_option_in_each_project(self):
        self.assertEqual({'own'}, self.found())

    def test_other_backends_may_have_another_one(self):
        self.assertEqual({'own', 'fast'},
                         self.found(fast=('fast%2fdisks', 'project')))

    def test_novas_are_watched_only_if_the_option_names_one(self):
        self.assertEqual({'own', 'nova'}, self.found('Instances'))

    def test_a_folder_of_that_name_elsewhere_is_not_of_volumes(self):
        self.assertEqual({'own'}, self.found(
            stray=('Volumes', 'root'), other=('Project (q)', 'root'),
            below=('Volumes', 'other')))


_PARENTS = ('root', 'f-1', 'f-2', 'f-3', 'f-4')
REPORTS: Any = strategies.tuples(
    strategies.sampled_from(_PARENTS[1:]), strategies.one_of(
        strategies.none(), strategies.tuples(
            strategies.sampled_from(('OpenStack', 'Project (p)', 'Volumes',
                                     'Instances', 'fast')),
            strategies.sampled_from(_PARENTS))), strategies.booleans())


class ReportedFoldersTestCase(unittest.TestCase):
    """Of all folders, a change looks at those around it."""

    def setUp(self):
        super().setUp()
        self.settled = 0
        self.folders = members._Folders(self.count)

    def count(self):
        self.settled += 1

    def report(self, moref, now):
        """:param now: the name and the parent; None: the folder leaves"""
        changes = []
        for path, text in zip(('name', 'parent'), now or ()):
            value = etree.Element('val')
            value.text = text
            changes.append((path, value, None))
        self.folders.update('modify' if now else 'leave', references.Ref(
            'Folder', moref), changes)

    @hypothesis.settings(
        deadline=None, derandomize=True, database=None, max_examples=150,
        suppress_health_check=[hypothesis.HealthCheck.too_slow])
    @hypothesis.given(strategies.lists(REPORTS, max_size=25))
    def test_what_is_found_around_changes_is_found_among_all(self, reports):
        self.folders = members._Folders(self.count)
        expected, before = {'root': ('vm', 'dc')}, set()
        self.report('root', ('vm', 'dc'))
        for moref, now, settled in reports:
            self.report(moref, now)
            if now:
                expected[moref] = now
            else:
                expected.pop(moref, None)
            if settled:
                changed, _gone = self.folders.take_changed()
                self.assertEqual(expected, self.folders.found)
                all_of_them = members.volume_folders(expected, 'Volumes')
                around = members.volume_folders(
                    self.folders.around(changed), 'Volumes')
                self.assertLessEqual(all_of_them - before, around)
                self.assertLessEqual(around, all_of_them)
                before = all_of_them

    def test_a_projects_folder_is_found_without_the_other_projects(self):
        self.report('top', ('OpenStack', 'root'))
        for number in range(1000):
            self.report(f'p{number}', (f'Project ({number})', 'top'))
            self.report(f's{number}', ('Volumes', f'p{number}'))
        self.folders.settle()
        self.folders.take_changed()
        for moref, now, around in (
                ('p7', ('old', 'top'), {'p7', 's7', 'top'}),
                ('s8', ('fast', 'p8'), {'s8', 'p8', 'top'}),
                ('p9', None, {'s9'}),
                ('p7', ('Project (7)', 'top'), {'p7', 's7', 'top'})):
            self.report(moref, now)
            changed, _gone = self.folders.take_changed()
            self.assertEqual(around, self.folders.around(changed).keys())

    def test_only_a_change_is_told(self):
        self.folders.settle()
        self.folders.settle()
        self.assertEqual(1, self.settled)
        self.report('top', ('OpenStack', 'root'))
        self.folders.settle()
        self.assertEqual(2, self.settled)


class WatchListTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.client = vcenters.Client(ModifyListView=vcenters.reply(''))
        self.list = members.WatchList(self.client)

    def changes(self):
        return [([each.value for each in arguments['add']],
                 [each.value for each in arguments['remove']])
                for _method, _view, arguments in self.client.calls]

    def test_instances_are_kept_until_there_is_a_list(self):
        self.list.follow(['vm-2'])
        self.list.open(LIST, ['group-v1'])
        self.list.close()
        self.list.open(LIST, [])
        self.assertEqual([(['group-v1', 'vm-2'], []), (['vm-2'], [])],
                         self.changes())

    def test_an_instance_is_added_once(self):
        self.list.open(LIST, [])
        self.assertEqual({'vm-1'}, self.list.follow(['vm-1']))
        self.assertEqual(set(), self.list.follow(['vm-1']))
        self.assertEqual([(['vm-1'], [])], self.changes())

    def test_one_that_the_vcenter_does_not_have_is_not_followed(self):
        self.client.answers['ModifyListView'] = vcenters.reply(
            '<returnval type="VirtualMachine">vm-1</returnval>')
        self.list.open(LIST, [])
        self.assertEqual({'vm-2'}, self.list.follow(['vm-1', 'vm-2']))
        self.assertFalse(self.list.follows('vm-1'))

    def test_after_an_error_it_is_added_anew(self):
        self.list.open(LIST, [])
        self.client.answers['ModifyListView'] = vcenters.SILENT
        self.assertRaises(exceptions.VimConnectionException,
                          self.list.follow, ['vm-1'])
        self.client.answers['ModifyListView'] = vcenters.reply('')
        self.assertEqual({'vm-1'}, self.list.follow(['vm-1']))

    def test_what_is_no_longer_followed_goes_with_the_next_change(self):
        self.list.open(LIST, [])
        self.list.follow(['vm-1'])
        self.list.unfollow('vm-1')
        self.list.unfollow('vm-3')  # it was not followed
        self.list.follow(['vm-2'])
        self.assertEqual((['vm-2'], ['vm-1']), self.changes()[-1])

    def test_one_that_changes_again_goes_without_another_change(self):
        self.list.open(LIST, [])
        self.list.follow(['vm-1'])
        self.list.unfollow('vm-1')
        self.list.follow([])
        self.assertEqual([(['vm-1'], [])], self.changes())
        self.list.unfollow('vm-1')
        self.list.follow([])
        self.list.follow([])
        self.assertEqual([(['vm-1'], []), ([], ['vm-1'])], self.changes())

    def test_what_a_lost_reply_left_on_the_list_goes_with_the_next(self):
        self.list.open(LIST, [])
        self.list.follow(['vm-1'])
        self.list.unfollow('vm-1')
        self.client.answers['ModifyListView'] = vcenters.SILENT
        self.assertRaises(exceptions.VimConnectionException,
                          self.list.follow, ['vm-2'])
        self.client.answers['ModifyListView'] = vcenters.reply('')
        self.list.follow(['vm-3'])
        self.assertEqual((['vm-3'], ['vm-1']), self.changes()[-1])

    def test_a_shadow_vm_that_left_its_folder_is_listed_itself(self):
        self.list.open(LIST, [])
        self.client.answers['ModifyListView'] = vcenters.reply(
            '<returnval type="VirtualMachine">vm-3</returnval>')
        self.assertEqual(({'vm-1'}, {'vm-3'}), self.list.keep({
            'vm-1': shadow.Backing('vm-1', f'volume-{ID}', ()),
            'vm-2': shadow.Backing('vm-2', 'a stranger', ()),
            'vm-3': shadow.Backing('vm-3', 'old', (), volume_id=ID)}))
        self.assertEqual([(['vm-1', 'vm-3'], [])], self.changes())

    def test_without_a_list_nothing_is_kept(self):
        self.assertEqual((set(), set()), self.list.keep({
            'vm-1': shadow.Backing('vm-1', f'volume-{ID}', ())}))

    def test_one_that_the_driver_deletes_is_not_sought(self):
        self.list.open(LIST, [])
        left = {'vm-1': shadow.Backing('vm-1', f'volume-{ID}', ())}
        self.list.doom('vm-1')
        self.list.keep(left)
        self.assertEqual([], self.client.calls)
        self.list.doom('vm-1')
        self.list.spare('vm-1')
        self.list.keep(left)
        self.assertEqual([(['vm-1'], [])], self.changes())

    def test_of_those_that_were_never_reported_few_are_remembered(self):
        for number in range(2 * members.MOST_DOOMED):
            self.list.doom(f'vm-{number}')
        self.assertEqual(members.MOST_DOOMED, len(self.list._doomed))
        self.list.open(LIST, [])
        self.list.doom('vm-1')
        self.list.keep({'vm-1': shadow.Backing('vm-1', f'volume-{ID}', ())})
        self.assertEqual([], self.client.calls)


class MembersTestCase(unittest.TestCase):

    def test_a_folder_that_vanishes_and_returns_is_watched_again(self):
        added = []
        watched = members.Members(
            types.SimpleNamespace(add=lambda refs: added.append(
                [ref.value for ref in refs])), None, 'Volumes', None, None,
            {}, None)
        watched._survey = None  # the list has been made
        folders = watched._folders

        def report(kind, *morefs):
            for moref in morefs:
                name, parent = FoldersTestCase.TREE[moref]
                folders.update(kind, references.Ref('Folder', moref), [
                    updates.Change('name', property_of(name)),
                    updates.Change('parent', property_of(parent))])
            folders.settle()
        report('enter', *FoldersTestCase.TREE)
        report('leave', 'own')
        report('enter', 'own')
        self.assertEqual([['own'], ['own']], added)


def property_of(text):
    return etree.fromstring(f'<val>{text}</val>')


class SurveyTestCase(unittest.TestCase):

    def found(self, path, text, unreadable=None):
        survey = members._Survey(lambda: None)
        survey.update('enter', vm('vm-1'), [updates.Change(
            path, text and etree.fromstring(text), unreadable)])
        return bool(survey.shadows)

    def test_a_shadow_vm_is_known_by_its_name_or_its_mark(self):
        mark = ('<val xmlns="urn:vim25"><key>cinder.volume.id</key>'
                '<value>{}</value></val>')
        for path, text, expected in (
                ('name', f'<val>volume-{ID}</val>', True),
                ('name', f'<val>volume-{ID}-clone</val>', True),
                ('name', '<val>web-1</val>', False),
                (members._MARK, mark.format(ID), True),
                (members._MARK, mark.format(''), False)):
            with self.subTest(path=path, text=text):
                self.assertEqual(expected, self.found(path, text))

    def test_it_skips_vms_that_have_nothing_but_another_name(self):
        change = ('<changeSet><name>{}</name><op>assign</op>'
                  '<val>{}</val></changeSet>')
        lacking = '<missingSet><path>name</path><fault/></missingSet>'
        mark = change.format(members._MARK, f'<key/><value>{ID}</value>')
        for parts, expected in (
                (change.format('name', 'web-1'), True),
                (change.format('name', f'volume-{ID}'), False),
                (change.format('name', f'volume-{ID}-moved'), False),
                (change.format('name', 'web-1') + mark, False),
                (mark, False), (lacking, False), ('', False)):
            survey = members._Survey(lambda: None)
            with self.subTest(parts=parts):
                self.assertIs(expected, survey.skips(etree.fromstring(
                    f'<objectSet xmlns="{soap.VIM}"><kind>enter</kind><obj '
                    f'type="VirtualMachine">vm-1</obj>{parts}</objectSet>')))

    def test_one_that_cannot_be_read_may_be_one(self):
        self.assertTrue(self.found('name', None, 'NoPermission'))
        self.assertFalse(self.found('name', None))


if __name__ == '__main__':
    unittest.main()
