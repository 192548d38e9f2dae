# SPDX-License-Identifier: Apache-2.0
"""What we override or call in Cinder is as it was when we last looked at it.
"""

import unittest

from cinder_vmdk_ext.tests.contract import seams

SUPPORTED = ('27', '28', '29')
REMEDY = (
    'read what changed in Cinder, adapt our side, then `make seams` records it'
)


def moved(
    then: dict[str, seams.Seam], now: dict[str, seams.Seam]
) -> list[str]:
    """One line for each seam that is not as it was."""
    lines = []
    for name, was in sorted(then.items()):
        if name not in now:
            lines.append(f'{name} is gone, or we use it no more')
        elif now[name].signature != was.signature:
            lines.append(
                f'{name}: its signature was {was.signature} '
                f'and is {now[name].signature}'
            )
        elif now[name].digest != was.digest:
            lines.append(f'{name}: its code changed')
    lines += [
        f'{name} is used and not recorded'
        for name in sorted(set(now) - set(then))
    ]
    return lines


class SeamsTestCase(unittest.TestCase):
    """The Cinder that is installed, against the record of its release."""

    maxDiff = None

    def test_no_seam_moved(self):
        installed = seams.Sources.installed()
        record = seams.recorded()
        newest = max(record, key=int)
        then = record.get(installed.major, record[newest])
        what = f'Cinder {installed.version}' + (
            ''
            if installed.major in record
            else f' (which has no record; compared with {newest})'
        )
        lines = moved(then, seams.observe(installed))
        self.assertEqual(
            [],
            lines,
            f'\n\nagainst {what}:\n' + '\n'.join(lines) + f'\n{REMEDY}',
        )

    def test_every_supported_release_is_recorded(self):
        self.assertEqual(SUPPORTED, tuple(sorted(seams.recorded(), key=int)))

    def test_what_upstream_calls_through_exists(self):
        installed = seams.Sources.installed()
        self.assertEqual(
            [],
            [name for name in seams.RELIED_ON if not installed.exists(name)],
        )

    def test_the_placement_seam_is_among_those_found(self):
        """The search finds what we know to be there; one that finds nothing
        would guard nothing.
        """
        found = seams.used_seams(seams.Sources.installed())
        for name in (
            'vmdk:VMwareVcVmdkDriver._create_session',
            'vmdk:VMwareVcVmdkDriver.__init__',
            'datastore:DatastoreSelector.select_datastore',
        ):
            self.assertIn(f'{seams.DRIVER_PACKAGE}.{name}', found)


class MovedTestCase(unittest.TestCase):
    """A seam that moves is named, with what moved."""

    THEN = {'m:C.f': seams.Seam('(self, a)', '11')}

    def test_a_seam_that_stayed_is_not_named(self):
        self.assertEqual([], moved(self.THEN, dict(self.THEN)))

    def test_a_new_argument_is_named(self):
        self.assertEqual(
            ['m:C.f: its signature was (self, a) and is (self, a, b)'],
            moved(self.THEN, {'m:C.f': seams.Seam('(self, a, b)', '22')}),
        )

    def test_a_new_body_is_named(self):
        self.assertEqual(
            ['m:C.f: its code changed'],
            moved(self.THEN, {'m:C.f': seams.Seam('(self, a)', '22')}),
        )

    def test_a_seam_that_is_gone_is_named(self):
        self.assertEqual(
            ['m:C.f is gone, or we use it no more'], moved(self.THEN, {})
        )

    def test_a_use_without_a_record_is_named(self):
        self.assertEqual(
            ['m:C.f is used and not recorded'], moved({}, self.THEN)
        )


if __name__ == '__main__':
    unittest.main()
