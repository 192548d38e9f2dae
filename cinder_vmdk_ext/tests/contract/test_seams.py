# SPDX-License-Identifier: Apache-2.0
"""Code of Cinder that we override or call is as it was when reviewed last.
"""

import ast
import unittest

from cinder_vmdk_ext.tests.contract import seams
from cinder_vmdk_ext.tests.contract import sources

SUPPORTED = ['cinder 27', 'cinder 28', 'cinder 29',
             'oslo.vmware 4.10', 'oslo.vmware 4.7']
REMEDY = 'read what changed there, adapt our side, then run `make seams`'


def moved(then: dict[str, sources.Piece],
          now: dict[str, sources.Piece]) -> list[str]:
    """One line for each seam that is not as it was."""
    lines = []
    for name, was in sorted(then.items()):
        if name not in now:
            lines.append(f'{name} is gone, or we use it no more')
        elif now[name].signature != was.signature:
            lines.append(f'{name}: its signature was {was.signature} '
                         f'and is {now[name].signature}')
        elif now[name].digest != was.digest:
            lines.append(f'{name}: its code changed')
    return lines + [f'{name} is used and not recorded'
                    for name in sorted(set(now) - set(then))]


def closest(now: dict[str, sources.Piece],
            releases: list[dict[str, sources.Piece]]
            ) -> dict[str, sources.Piece]:
    """For a release without a record: of each seam its likest known form."""
    then: dict[str, sources.Piece] = {}
    for pieces in releases:
        for name, piece in pieces.items():
            if then.get(name) != now.get(name):
                then[name] = piece
    return then


class SeamsTestCase(unittest.TestCase):
    """The packages that are installed, against the record of their release."""

    def check(self, package):
        installed = sources.Sources.installed(package)
        record, now = seams.recorded(), seams.observe(installed)
        then = record.get(installed.release)
        if then is None:
            then = closest(now, [
                pieces for release, pieces in record.items()
                if release.startswith(sources.DISTRIBUTIONS[package])])
        lines = moved(then, now)
        if lines:
            self.fail('\n'.join([
                f'{sources.DISTRIBUTIONS[package]} {installed.version}:',
                *lines, REMEDY]))

    def test_no_seam_in_cinder_moved(self):
        self.check('cinder')

    def test_no_seam_in_oslo_vmware_moved(self):
        self.check('oslo_vmware')

    def test_every_supported_release_is_recorded(self):
        self.assertEqual(SUPPORTED, sorted(seams.recorded()))

    def test_what_upstream_calls_through_exists(self):
        cinder = sources.Sources.installed('cinder')
        self.assertEqual([], [name for name in seams.RELIED_ON
                              if cinder.describe(name) is None])

    def test_the_seams_that_we_know_of_are_found(self):
        """A search that finds nothing would guard nothing."""
        record = seams.recorded()
        for release, name in (
                ('cinder 29', 'vmdk:VMwareVcVmdkDriver._create_session'),
                ('cinder 29', 'vmdk:VMwareVcVmdkDriver.__init__'),
                ('cinder 29', 'datastore:DatastoreSelector.select_datastore')):
            self.assertIn(f'{seams.DRIVER_PACKAGE}.{name}', record[release])
        self.assertIn('oslo_vmware.api:VMwareAPISession.invoke_api',
                      record['oslo.vmware 4.10'])


class ReachedTestCase(unittest.TestCase):
    """Objects of upstream are known by what is called on them, whatever the
    attribute, variable or method is named that leads there.
    """

    FOLDER = f'{seams.UPSTREAM_CLASSES[1]}.create_datastore_folder'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cinder = sources.Sources.installed('cinder')

    def seen(self, *lines):
        """What is recorded for a class of ours with these lines in it."""
        text = 'class Thing:\n    def method(self, gear):\n' + ''.join(
            f'        {line}\n' for line in lines)
        return seams.observe(self.cinder, {'cinder_vmdk_ext.thing':
                                           ast.parse(text)})

    def test_by_an_attribute_that_is_in_no_list(self):
        self.assertIn(self.FOLDER, self.seen(
            'self.gear.create_datastore_folder("folder")'))

    def test_by_a_variable(self):
        self.assertIn(self.FOLDER, self.seen(
            'gear.create_datastore_folder("folder")'))

    def test_by_a_method_that_returns_it(self):
        self.assertIn(self.FOLDER, self.seen(
            'self.gear().create_datastore_folder("folder")'))

    def test_with_it_all_else_that_is_used_of_it(self):
        """Also attributes, whose names alone would not show it."""
        attribute = f'{seams.UPSTREAM_CLASSES[1]}._max_objects'
        use = 'print(self.gear._max_objects)'
        self.assertNotIn(attribute, self.seen(use))
        self.assertIn(attribute, self.seen(
            use, 'self.gear.create_datastore_folder("folder")'))

    def test_upstreams_driver_behind_a_collaborator(self):
        self.assertIn(f'{seams.UPSTREAM_CLASSES[0]}._create_backing',
                      self.seen('self.gear._create_backing(1)'))

    def test_an_object_of_ours_is_not_taken_for_one(self):
        text = ('class Gear:\n    def create_datastore_folder(self): pass\n'
                'class User:\n    def method(self):\n'
                '        self.gear.create_datastore_folder()\n')
        self.assertNotIn(self.FOLDER, seams.observe(
            self.cinder, {'cinder_vmdk_ext.thing': ast.parse(text)}))

    def test_in_our_code_by_more_names_than_upstreams(self):
        """`_ops` was such a name, and two seams behind it not recorded."""
        self.assertLess(set(seams.COLLABORATORS), set(seams.reached(
            self.cinder, seams.our_modules())))
        self.assertIn(self.FOLDER, seams.recorded()['cinder 29'])


class MovedTestCase(unittest.TestCase):
    """A seam that moves is named, with what moved."""

    THEN = {'m:C.f': sources.Piece('(self, a)', '11')}

    def test_a_seam_that_stayed_is_not_named(self):
        self.assertEqual([], moved(self.THEN, dict(self.THEN)))

    def test_a_new_argument_is_named(self):
        self.assertEqual(
            ['m:C.f: its signature was (self, a) and is (self, a, b)'],
            moved(self.THEN, {'m:C.f': sources.Piece('(self, a, b)', '22')}),
        )

    def test_a_new_body_is_named(self):
        self.assertEqual(
            ['m:C.f: its code changed'],
            moved(self.THEN, {'m:C.f': sources.Piece('(self, a)', '22')}),
        )

    def test_a_seam_that_is_gone_is_named(self):
        self.assertEqual(
            ['m:C.f is gone, or we use it no more'], moved(self.THEN, {})
        )

    def test_a_use_without_a_record_is_named(self):
        self.assertEqual(
            ['m:C.f is used and not recorded'], moved({}, self.THEN)
        )

    def test_a_release_between_two_may_look_like_either(self):
        other = {'m:C.f': sources.Piece('(self)', '00')}
        self.assertEqual(self.THEN, closest(self.THEN, [self.THEN, other]))
        self.assertEqual(self.THEN, closest(self.THEN, [other, self.THEN]))


if __name__ == '__main__':
    unittest.main()
