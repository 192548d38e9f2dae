# SPDX-License-Identifier: Apache-2.0
"""No account is locked by logins with a wrong password."""

import unittest

from cinder_vmdk_ext.vsphere import accounts


class AccountTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.account = accounts.Account(clock=lambda: self.now)

    def refused_logins(self, seconds):
        """When logins are tried that the vCenter refuses, one and all."""
        tried = []
        while self.now < seconds:
            try:
                self.account.check()
            except ValueError:
                pass
            else:
                tried.append(self.now)
                self.account.refuse(ValueError('wrong'))
            self.now += 1
        return tried

    def test_a_process_tries_once_in_three_minutes(self):
        tried = self.refused_logins(86400)
        for begin in tried:
            within = [at for at in tried if begin <= at < begin + 180]
            self.assertEqual(1, len(within), within)

    def test_the_pause_grows_to_a_bound(self):
        pauses = [self.account.refuse(ValueError()) for _ in range(8)]
        self.assertEqual(sorted(pauses), pauses)
        self.assertEqual([accounts.FIRST_PAUSE_SECONDS,
                          accounts.LONGEST_PAUSE_SECONDS],
                         [pauses[0], pauses[-1]])

    def test_a_login_that_succeeds_ends_it(self):
        self.account.refuse(ValueError())
        self.account.refuse(ValueError())
        self.account.accept()
        self.account.check()
        self.assertEqual(accounts.FIRST_PAUSE_SECONDS,
                         self.account.refuse(ValueError()))

    def test_an_account_is_known_by_vcenter_user_and_password(self):
        mine = accounts.of('VC.example', 443, 'me@vsphere.local', 'old')
        self.assertIs(mine, accounts.of('vc.example', 443,
                                        'ME@vsphere.local', 'old'))
        for other in (('vc.example', 443, 'you', 'old'),
                      ('vc2', 443, 'me@vsphere.local', 'old'),
                      ('vc.example', 8443, 'me@vsphere.local', 'old'),
                      ('vc.example', 443, 'me@vsphere.local', 'new')):
            self.assertIsNot(mine, accounts.of(*other))


if __name__ == '__main__':
    unittest.main()
