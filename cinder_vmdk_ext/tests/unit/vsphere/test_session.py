# SPDX-License-Identifier: Apache-2.0
"""The session's reaction to failed calls, without a vCenter."""

import threading
import types
import unittest

from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import accounts
from cinder_vmdk_ext.vsphere import session

VM = vim_util.get_moref('vm-1', 'VirtualMachine')
LOST = vmware_exceptions.VimConnectionException('lost')
DENIED = vmware_exceptions.VimFaultException(
    ['NotAuthenticated'], 'denied', cause=Exception())
EMPTY = vmware_exceptions.VimFaultException(['NotAuthenticated'], 'nothing')
BAD_LOGIN = vmware_exceptions.VimFaultException(['InvalidLogin'], 'wrong')


class Vim:
    """The vSphere API: methods give the prepared answers, one after another;
    an exception is raised, a callable is called.
    """

    def __init__(self, **answers):
        self.answers = {name: list(each) for name, each in answers.items()}
        self.calls = []
        self.logins = 0
        self.service_content = types.SimpleNamespace(sessionManager='manager')

    def get_http_cookie(self):
        return f'cookie-{self.logins}'

    def Login(self, _manager, **_arguments):
        self._answer('Login')
        self.logins += 1
        return types.SimpleNamespace(key=f'key-{self.logins}', userName='me')

    def __getattr__(self, name):
        if not name[0].isupper():
            raise AttributeError(name)
        return lambda *args, **kwargs: self._answer(name)

    def _answer(self, name):
        self.calls.append(name)
        left = self.answers.get(name)
        answer = left.pop(0) if left else None
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


class SessionCase(unittest.TestCase):
    """A session with prepared answers, and a clock that jumps."""

    def make(self, vim=None, retries=10, **options):
        self.vim = vim or Vim()
        self.now = 0.0
        self.pauses = []
        made = session.Session(
            'vc', 'me', 'secret', retries, 0.1, create_session=False,
            clock=lambda: self.now, sleep=self.sleep,
            **{'account': accounts.Account(lambda: self.now)} | options)
        made.vim = self.vim
        made.is_current_session_active = lambda: self.active
        self.active = True
        return made

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def logged_in(self, **answers):
        made = self.make(Vim(**answers))
        made.renew(None)
        self.vim.calls.clear()
        return made


class CallsTestCase(SessionCase):
    """invoke_api()."""

    def call(self, made, name, *args):
        return made.invoke_api(self.vim, name, VM, *args)

    def test_a_change_with_a_lost_reply_is_made_once(self):
        made = self.logged_in(CreateVM_Task=[LOST, 'task'])
        with self.assertRaises(exceptions.OutcomeUnknown) as caught:
            self.call(made, 'CreateVM_Task')
        self.assertEqual(['CreateVM_Task'], self.vim.calls)
        self.assertEqual(('CreateVM_Task', 'vm-1'),
                         (caught.exception.method, caught.exception.target))

    def test_the_lean_clients_calls_are_known_by_their_method(self):
        made = self.logged_in()
        client = types.SimpleNamespace(
            call=lambda method, ref: self.raise_lost())
        with self.assertRaises(exceptions.OutcomeUnknown) as caught:
            made.invoke_api(client, 'call', 'CloneVM_Task', VM)
        self.assertEqual('CloneVM_Task', caught.exception.method)

    @staticmethod
    def raise_lost():
        raise LOST

    def test_a_read_with_a_lost_reply_is_made_again(self):
        made = self.logged_in(FindByUuid=[LOST, LOST, 'found'])
        self.assertEqual('found', self.call(made, 'FindByUuid'))
        self.assertLess(sum(self.pauses), 0.5)

    def test_repetition_has_an_end_by_number(self):
        made = self.logged_in(FindByUuid=[LOST] * 100)
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            self.call(made, 'FindByUuid')
        self.assertEqual(10, len(self.pauses))
        self.assertLessEqual(max(self.pauses), 30)
        self.assertGreater(self.now, 40)
        self.assertLess(self.now, 90)

    def test_repetition_has_an_end_by_time(self):
        made = self.logged_in(FindByUuid=[self.slow] * 100)
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            self.call(made, 'FindByUuid')
        self.assertLess(self.now, session.PATIENCE_SECONDS + 31)

    def slow(self):
        self.now += 30
        raise LOST

    def test_a_denied_change_is_made_after_a_login(self):
        made = self.logged_in(CreateVM_Task=[DENIED, 'task'])
        self.assertEqual('task', self.call(made, 'CreateVM_Task'))
        self.assertEqual(['CreateVM_Task', 'Logout', 'Login',
                          'CreateVM_Task'], self.vim.calls)
        self.assertEqual([], self.pauses)

    def test_a_change_is_not_executed_by_a_login_that_fails(self):
        """The reply that was lost is the login's."""
        made = self.logged_in(CreateVM_Task=[DENIED, 'task'])
        self.vim.answers['Login'] = [LOST]
        self.assertEqual('task', self.call(made, 'CreateVM_Task'))

    def test_endless_denials_have_an_end(self):
        made = self.logged_in(FindByUuid=[DENIED] * 100)
        with self.assertRaises(vmware_exceptions.NotAuthenticatedException):
            self.call(made, 'FindByUuid')
        self.assertLess(self.vim.logins, 6)

    def test_an_empty_reply_of_a_good_session_is_empty(self):
        made = self.logged_in(RetrievePropertiesEx=[EMPTY])
        self.assertEqual([], self.call(made, 'RetrievePropertiesEx'))

    def test_an_empty_reply_is_asked_again_if_the_session_was_replaced(self):
        """Between the reply and the look at the session."""
        made = self.logged_in(RetrievePropertiesEx=[EMPTY, 'something'])

        def replaced():
            made._session_id = 'another'
            return True
        made.is_current_session_active = replaced
        self.assertEqual('something',
                         self.call(made, 'RetrievePropertiesEx'))

    def test_other_faults_pass_at_once(self):
        made = self.logged_in(CreateFolder=[
            vmware_exceptions.VimFaultException(['DuplicateName'], 'x')])
        with self.assertRaises(vmware_exceptions.DuplicateName):
            self.call(made, 'CreateFolder')
        self.assertEqual(1, len(self.vim.calls))


class LoginTestCase(SessionCase):
    """renew(), _create_session() and logout()."""

    def test_one_thread_logs_in_for_all_that_lost_the_same(self):
        made = self.logged_in()
        lost = made._session_id
        threads = [threading.Thread(target=made.renew, args=(lost,))
                   for _ in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(2, self.vim.logins)

    def test_a_session_that_is_good_is_kept(self):
        made = self.logged_in()
        made._create_session()
        self.assertEqual(1, self.vim.logins)
        self.active = False
        made._create_session()
        self.assertEqual(2, self.vim.logins)

    def test_a_wrong_password_is_not_tried_again_for_a_while(self):
        made = self.make(Vim(Login=[BAD_LOGIN] * 9))
        for _ in range(5):
            with self.assertRaises(vmware_exceptions.VimFaultException):
                made.renew(None)
        self.assertEqual(1, self.vim.calls.count('Login'))
        self.now += accounts.FIRST_PAUSE_SECONDS
        self.vim.answers['Login'] = []
        made.renew(None)
        self.assertEqual('key-1', made._session_id)

    def test_sessions_of_one_account_share_the_pause(self):
        """Also one that is made anew, as Cinder does at a failed start."""
        account = accounts.Account(lambda: self.now)
        logins = 0
        for _ in range(4):
            made = self.make(Vim(Login=[BAD_LOGIN]), account=account)
            with self.assertRaises(vmware_exceptions.VimFaultException):
                made.renew(None)
            logins += self.vim.calls.count('Login')
        self.assertEqual(1, logins)
        one, other = (session.Session('vc', 'me', 'secret', 1, 1,
                                      create_session=False)
                      for _ in range(2))
        self.assertIs(one._account, other._account)

    def test_a_login_without_a_reply_may_be_tried_at_once(self):
        made = self.make(Vim(Login=[LOST]))
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            made._create_session()
        self.now += 0.1
        made._create_session()
        self.assertEqual('key-1', made._session_id)

    def test_no_login_follows_the_logout(self):
        made = self.logged_in()
        made.logout()
        with self.assertRaisesRegex(vmware_exceptions.VimException, 'closed'):
            made.renew(None)
        made.logout()
        self.assertEqual(1, self.vim.logins)

    def test_a_logout_that_fails_raises_nothing(self):
        made = self.logged_in(Logout=[LOST])
        made.logout()

    def test_each_session_is_noted_and_its_end_too(self):
        noted = []
        made = self.make(note=noted.append)
        made.renew(None)
        made.renew(made._session_id)
        made.logout()
        self.assertEqual(['cookie-1', 'cookie-2', None], noted)

    def test_it_does_not_show_its_password(self):
        self.assertNotIn('secret', repr(self.make()) + str(self.make()))


class TasksTestCase(SessionCase):
    """wait_for_task() and wait_for_lease_ready()."""

    def test_a_waiter_that_is_set_does_the_waiting(self):
        made = self.make()
        made.task_waiter = lambda task: ('waited for', task)
        self.assertEqual(('waited for', VM), made.wait_for_task(VM))

    def test_a_wait_for_a_task_is_announced(self):
        announced = []
        made = self.make(on_task=lambda: announced.append(True))
        made.task_waiter = lambda task: None
        made.wait_for_task(VM)
        self.assertEqual([True], announced)

    def test_a_lease_that_is_never_ready_is_given_up(self):
        made = self.make()
        made.invoke_api = lambda *args, **kwargs: 'initializing'
        with self.assertRaisesRegex(vmware_exceptions.VimException,
                                    'not ready after 300 s'):
            made.wait_for_lease_ready(VM)

    def test_a_lease_is_waited_for(self):
        made = self.make()
        states = ['initializing', 'initializing', 'ready']
        made.invoke_api = lambda *args, **kwargs: states.pop(0)
        made.wait_for_lease_ready(VM)
        self.assertEqual([0.1, 0.1], self.pauses)


if __name__ == '__main__':
    unittest.main()
