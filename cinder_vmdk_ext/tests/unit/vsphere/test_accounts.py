# SPDX-License-Identifier: Apache-2.0
"""No account is locked by logins with a wrong password."""

import pathlib
import tempfile
import unittest

from oslo_vmware import exceptions as vmware_exceptions

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


class SharedRefusalsTestCase(unittest.TestCase):
    """Processes of one host know of each other's refusals."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.now = 1e9

    def account(self, password='old'):
        return accounts.Account(lambda: self.now, accounts.SharedRefusals(
            self.folder, f'me\n{password}', lambda: self.now))

    def test_a_refusal_is_known_to_another_process(self):
        pause = self.account().refuse(ValueError('no such user'))
        other = self.account()
        with self.assertRaisesRegex(vmware_exceptions.VimFaultException,
                                    'no such user'), other.attempt():
            self.fail('a login was tried')
        self.now += pause
        with other.attempt():
            pass

    def test_the_pause_grows_with_the_refusals_of_all(self):
        first = self.account().refuse(ValueError())
        self.assertEqual(2 * first, self.account().refuse(ValueError()))

    def test_another_password_is_tried_at_once(self):
        self.account().refuse(ValueError())
        with self.account('new').attempt():
            pass

    def test_a_login_that_succeeds_ends_it_for_all(self):
        self.account().refuse(ValueError())
        self.now += accounts.FIRST_PAUSE_SECONDS
        self.account().accept()
        self.assertEqual(accounts.FIRST_PAUSE_SECONDS,
                         self.account().refuse(ValueError()))

    def test_the_password_is_in_no_file_and_the_files_are_the_owners(self):
        self.account('secret').refuse(ValueError('wrong'))
        for path in pathlib.Path(self.folder).rglob('*'):
            self.assertEqual(0, path.stat().st_mode & 0o077, path)
            self.assertNotIn('secret', path.name)
            if path.is_file():
                self.assertNotIn(b'secret', path.read_bytes())

    def test_a_folder_that_cannot_be_written_stops_no_login(self):
        account = accounts.Account(
            note=accounts.SharedRefusals('/proc/none', 'me'))
        with self.assertLogs('cinder_vmdk_ext.vsphere.accounts', 'WARNING'):
            with account.attempt():
                account.accept()

    def test_a_file_that_is_damaged_is_none(self):
        self.account().refuse(ValueError())
        for path in pathlib.Path(self.folder).rglob('*'):
            if path.is_file() and path.name != 'key':
                path.write_text('{"until": ')
        with self.account().attempt():
            pass


if __name__ == '__main__':
    unittest.main()
