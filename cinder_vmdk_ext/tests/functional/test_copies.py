# SPDX-License-Identifier: Apache-2.0
"""The properties that copies keep: a part of docs/copies.md, and more."""

import re

from cinder import exception

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.tests.functional import copy_matrix
from cinder_vmdk_ext.tests.functional import test_groups

# One case of each kind; `make copy-matrix` runs them all.
PART = (
    ('full clone, or of the image cache', True, False),
    ('full clone, or of the image cache', False, False),
    ('snapshot (template)', True, False),
    ('volume of a snapshot (COW)', False, False),
    ('revert to a template', False, False),
    ('revert to a COW snapshot', False, True),
    ('retype on its pool', False, False),
    ('manage', False, False),
    ('reimage', False, False))
SOURCE = copy_matrix.Form('paraVirtual', 'eagerZeroedThick', 'gold')


class MatrixTestCase(copy_matrix.CopyCase):

    def test_each_copy_has_what_the_page_says(self):
        page = copy_matrix.PAGE.read_text()
        for way, attached, named in PART:
            with self.subTest(way, attached=attached):
                found = self.run_case(copy_matrix.Case(way, attached, SOURCE,
                                                       named))
                row = _row(page, way, attached)
                for column, cell in zip(found[:3], row):
                    self.assertIn(column, cell.split(' / ')[named].split(
                        ' or '))
                self.assertEqual('nothing', found.left)

    def test_a_copy_is_no_former_volume_of_its_source(self):
        source = self.create()
        self.wait(self.truth(source).vm.ReconfigVM_Task(
            copy_matrix.vim.vm.ConfigSpec(extraConfig=[
                copy_matrix.vim.option.OptionValue(key=shadow.FORMERLY,
                                                   value='former')])))
        copy = self.full_clone(source, False)
        kind = self.known_type({'vmdk_type': 'thick'})
        self.assertTrue(self.driver.retype(self.context, source, kind, {},
                                           self.there('LocalDS_1')))
        self.assertEqual(['', 'former'], [
            next((option.value for option
                  in self.truth(volume).vm.config.extraConfig
                  if option.key == shadow.FORMERLY), '')
            for volume in (copy, source)])


def _row(page, way, attached):
    found = re.search(rf'^\| {re.escape(way)} \| '
                      rf'{"attached" if attached else "detached"} \| (.*)$',
                      page, re.MULTILINE)
    return found[1].split(' | ')


class SnapshotsBelowTestCase(test_groups.GroupCase):

    def test_one_below_an_attached_disk_is_busy(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        self.attach(volume)
        # Cinder's manager sets it available again after that error alone.
        self.assertRaises(exception.SnapshotIsBusy,
                          self.driver.delete_snapshot, snapshot)
        self.assertIsNotNone(self.truth(volume).vm.snapshot)

    def test_a_group_is_deleted_though_its_sources_are_gone(self):
        group = self.group(**test_groups.CONSISTENT)
        source, = self.members(group, 1)
        copy = self.new_volume('LocalDS_2', group_id=group.id,
                               source_volid=source.id)
        self.made(copy, self.driver.create_cloned_volume(copy, source))
        self.driver.delete_volume(source)
        source.destroy()
        status, (update,) = self.driver.delete_group(self.context, group,
                                                     [copy])
        self.assertEqual('deleted', update['status'])

    def test_a_group_is_deleted_though_an_instance_is_gone(self):
        group = self.group(**test_groups.CONSISTENT)
        source, = self.members(group, 1)
        copy = self.new_volume('LocalDS_2', group_id=group.id,
                               source_volid=source.id)
        self.made(copy, self.driver.create_cloned_volume(copy, source))
        instance = self.attach(source)
        self.unplug(source, instance)
        _status, (update,) = self.driver.delete_group(self.context, group,
                                                      [copy])
        self.assertEqual('deleted', update['status'])
