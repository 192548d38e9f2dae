# SPDX-License-Identifier: Apache-2.0
"""The note by which a session is ended; functional tests use processes."""

import os
import pickle
import unittest

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.vsphere import logout


class Owner:
    pass


class Client:
    """Notes what it is asked; fails if that is prepared."""

    def __init__(self, calls, error=None):
        self.calls = calls
        self.error = error

    def call(self, method, this, read_seconds):
        self.calls.append((method, this.type))
        if self.error is not None:
            raise self.error

    def close(self):
        self.calls.append('closed')


class NoteTestCase(unittest.TestCase):
    """A text in memory that processes share."""

    def test_it_says_what_was_written_last(self):
        note = logout.Note()
        self.assertIsNone(note.read())
        note.write('a longer text')
        note.write('short')
        self.assertEqual('short', note.read())
        note.write(None)
        self.assertIsNone(note.read())

    def test_what_a_child_writes_its_parent_reads(self):
        note = logout.Note()
        child = os.fork()
        if not child:
            note.write('from the child')
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual('from the child', note.read())
        self.assertEqual(child, note.writer())

    def test_too_much_is_cut(self):
        note = logout.Note()
        note.write('x' * 10000)
        self.assertLess(len(note.read()), 4096)

    def test_a_process_that_is_spawned_gets_one_of_its_own(self):
        note = logout.Note()
        note.write('mine')
        self.assertIsNone(pickle.loads(pickle.dumps(note)).read())


class EndTestCase(unittest.TestCase):
    """end() and at_exit()."""

    def setUp(self):
        super().setUp()
        self.note = logout.Note()
        self.calls = []

    def make_client(self, cookie):
        self.calls.append(cookie)
        return Client(self.calls)

    def test_the_noted_session_is_ended_once(self):
        self.note.write('cookie')
        for _ in range(2):
            logout.end(self.note, self.make_client)
        self.assertEqual(['cookie', ('Logout', 'SessionManager'), 'closed'],
                         self.calls)

    def test_nothing_is_done_without_a_session(self):
        logout.end(self.note, self.make_client)
        self.assertEqual([], self.calls)

    def test_failures_raise_nothing(self):
        for error in (vmware_exceptions.VimConnectionException('x'),
                      vmware_exceptions.VimFaultException([], 'x'),
                      OSError('the file of the authority is gone')):
            self.note.write('cookie')
            logout.end(self.note, lambda cookie: Client([], error))

    def test_it_ends_with_its_owner(self):
        owner = Owner()
        logout.at_exit(owner, self.note, self.make_client)
        self.note.write('cookie')
        del owner
        self.assertIn('cookie', self.calls)

    def test_a_child_of_another_purpose_leaves_it_alone(self):
        self.note.write('cookie')
        child = os.fork()
        if not child:
            logout._at_exit(os.getppid(), self.note, self.make_client)
            os._exit(len(self.calls))
        self.assertEqual(0, os.waitpid(child, 0)[1])


if __name__ == '__main__':
    unittest.main()
