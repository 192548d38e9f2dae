# SPDX-License-Identifier: Apache-2.0
"""Evidence that is read from the vCenter's properties."""

import datetime
import unittest

from cinder_vmdk_ext.audit import collect


class AgeTestCase(unittest.TestCase):

    def test_the_calendars_first_day_is_no_moment(self):
        """The vCenter says "never" with it; a sweep asks for a known age."""
        never = datetime.datetime(1970, 1, 1)
        for moment in (None, never,
                       never.replace(tzinfo=datetime.timezone.utc)):
            self.assertIsNone(collect._age(moment))

    def test_an_age_is_told_in_seconds(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        age = collect._age(now - datetime.timedelta(hours=2))
        self.assertTrue(7200 <= age < 7800, age)


if __name__ == '__main__':
    unittest.main()
