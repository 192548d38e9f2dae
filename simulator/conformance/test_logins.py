# SPDX-License-Identifier: Apache-2.0
"""Logins are checked, and what hangs on a session ends with it."""

import http.client
import ssl
import threading
import time
import unittest

from oslo_vmware import api
from oslo_vmware import exceptions as oslo_exceptions
from pyVmomi import SoapStubAdapter
from pyVmomi import vim
from pyVmomi import vmodl
import requests

from simulator import client as simulator_client
from simulator.conformance import vcenter_case
from simulator.conformance import wsdl_once
from simulator import control as control_endpoint

PC = vmodl.query.PropertyCollector


class LoginsTestCase(unittest.TestCase):

    flags = {'vm': 0}

    @classmethod
    def setUpClass(cls):
        cls.vcenter = simulator_client.Simulator(**cls.flags).start()
        cls.addClassCleanup(cls.vcenter.stop)
        cls.control = control_endpoint.Control(cls.vcenter.control_url)

    def setUp(self):
        self.control.kill_sessions()
        self.client = self.vcenter.connect()
        self.manager = self.client.content.sessionManager

    def stranger(self):
        """A client that has not logged in."""
        stub = SoapStubAdapter(host=self.vcenter.host, port=self.vcenter.port, version='vim.version.version12',
                               sslContext=ssl.create_default_context(cafile=self.vcenter.cacert))
        return vim.ServiceInstance('ServiceInstance', stub)

    def waiter(self, client):
        """Another thread that waits for updates of the root folder; what it ends with."""
        collector = client.content.propertyCollector
        collector.CreateFilter(PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=client.content.rootFolder)],
            propSet=[PC.PropertySpec(type=vim.Folder, pathSet=['name'])]), False)
        version = collector.WaitForUpdatesEx('').version
        result = []

        def wait():
            try:
                result.append(collector.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=20)))
            except Exception as error:
                result.append(error)
        thread = threading.Thread(target=wait)
        thread.start()
        vcenter_case.until(lambda: 'WaitForUpdatesEx' in self.control.journal()['running'])
        time.sleep(0.1)
        return thread, result


class LoginTestCase(LoginsTestCase):

    def test_a_wrong_password_or_user_is_invalid_login(self):
        content = self.stranger().RetrieveContent()
        for user, password in ((self.vcenter.user, 'wrong'), ('nobody', self.vcenter.password), ('', '')):
            with self.subTest(user):
                self.assertRaises(vim.fault.InvalidLogin, content.sessionManager.Login, user, password)

    def test_oslo_vmware_sees_the_wrong_password(self):
        self.enterContext(wsdl_once.shared())
        with self.assertRaises(oslo_exceptions.VimFaultException) as caught:
            api.VMwareAPISession(self.vcenter.host, self.vcenter.user, 'wrong', 1, 0.1, port=self.vcenter.port,
                                 cacert=self.vcenter.cacert)
        self.assertEqual(['InvalidLogin'], caught.exception.fault_list)

    def test_calls_without_a_session_are_not_authenticated(self):
        stranger = self.stranger()
        self.assertRaises(vim.fault.NotAuthenticated, stranger.CurrentTime)
        folder = vim.Folder(self.client.content.rootFolder._moId, stranger._stub)
        self.assertRaises(vim.fault.NotAuthenticated, folder.CreateFolder, 'never')
        self.assertNotIn('never', [child.name for child in self.client.content.rootFolder.childEntity])

    def test_after_logout_nothing_is_allowed(self):
        folder = self.client.content.rootFolder
        self.manager.Logout()
        self.assertRaises(vim.fault.NotAuthenticated, self.client.CurrentTime)
        self.assertRaises(vim.fault.NotAuthenticated, folder.CreateFolder, 'never')

    def test_session_is_active(self):
        other = self.vcenter.connect()
        session = other.content.sessionManager.currentSession
        ask = self.manager.SessionIsActive
        self.assertTrue(ask(session.key, session.userName))
        self.assertFalse(ask(session.key, 'nobody'))
        self.assertFalse(ask('no-such-session', session.userName))
        other.content.sessionManager.Logout()
        self.assertFalse(ask(session.key, session.userName))

    def test_oslo_vmware_knows_whether_its_session_lives(self):
        self.enterContext(wsdl_once.shared())
        session = api.VMwareAPISession(self.vcenter.host, self.vcenter.user, self.vcenter.password, 1, 0.1,
                                       port=self.vcenter.port, cacert=self.vcenter.cacert)
        self.addCleanup(session.logout)
        self.assertTrue(session.is_current_session_active())
        self.control.kill_sessions()
        self.assertFalse(session.is_current_session_active())

    def test_terminated_by_another_session(self):
        other = self.vcenter.connect()
        self.manager.TerminateSession([other.content.sessionManager.currentSession.key])
        self.assertRaises(vim.fault.NotAuthenticated, other.CurrentTime)
        self.client.CurrentTime()

    def test_sessions_are_listed_without_their_keys(self):
        key = self.manager.currentSession.key
        sessions = self.control.sessions()
        self.assertEqual([self.vcenter.user], [session['user'] for session in sessions])
        self.assertNotIn(key, str(sessions))

    def test_what_a_call_makes_as_its_session_ends_goes_too(self):
        before = self.control.watching()
        content = self.client.content
        self.addCleanup(self.control.reset_faults)
        self.control.fault(method='Create(ContainerView|PropertyCollector)', delay_ms=500)
        threads = [threading.Thread(target=self.quietly, args=call) for call in (
            (content.viewManager.CreateContainerView, content.rootFolder, [vim.Folder], True),
            (content.propertyCollector.CreatePropertyCollector,))]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        self.control.kill_sessions()
        for thread in threads:
            thread.join(60)
        self.assertEqual(before, self.control.watching())

    @staticmethod
    def quietly(call, *arguments):
        try:
            call(*arguments)
        except vmodl.MethodFault:
            pass  # either answer is a vCenter's

    def test_one_session_is_killed(self):
        self.vcenter.connect()
        first, second = self.control.sessions()
        self.control.kill_session(first)
        self.assertEqual([second['id']], [session['id'] for session in self.control.sessions()])
        self.assertRaisesRegex(control_endpoint.ControlError, 'no session', self.control.kill_session, first)


class WaitTestCase(LoginsTestCase):

    def check(self, end):
        thread, result = self.waiter(self.client)
        begin = time.monotonic()
        end()
        thread.join()
        self.assertIsInstance(result[0], vim.fault.NotAuthenticated)
        self.assertLess(time.monotonic() - begin, 15)

    def test_logout_ends_a_wait(self):
        key = self.manager.currentSession.key
        # pyVmomi waits for one call on a connection, so the same session logs out through another.
        stranger = self.stranger()
        stranger._stub.cookie = self.client._stub.cookie

        def logout():
            stranger.content.sessionManager.Logout()
        self.check(logout)
        other = self.vcenter.connect()
        self.assertFalse(other.content.sessionManager.SessionIsActive(key, self.vcenter.user))

    def test_termination_ends_a_wait(self):
        other = self.vcenter.connect()
        key = self.manager.currentSession.key
        self.check(lambda: other.content.sessionManager.TerminateSession([key]))

    def test_a_killed_session_ends_a_wait(self):
        self.check(lambda: self.control.kill_sessions(user=self.vcenter.user))


class TimeoutTestCase(LoginsTestCase):

    flags = {'vm': 0, 'session_timeout': '3s'}

    def test_an_idle_session_ends(self):
        self.client.CurrentTime()
        time.sleep(3.5)
        self.assertRaises(vim.fault.NotAuthenticated, self.client.CurrentTime)

    def test_a_session_in_use_lives_on(self):
        for _ in range(4):
            time.sleep(1)
            self.client.CurrentTime()

    def test_a_wait_in_progress_keeps_its_session(self):
        thread, result = self.waiter(self.client)
        time.sleep(4)
        self.assertEqual([], result)
        self.assertEqual(1, len(self.control.sessions()))
        self.control.kill_sessions()
        thread.join()


class CookieTestCase(LoginsTestCase):
    """As pyvmomi recorded an 8.0.3 (basic_connection.yaml) and the policy service (pbm_check_compatibility.yaml)."""

    def post(self, path, text, cookie=''):
        return requests.post(
            f'https://{self.vcenter.host}:{self.vcenter.port}{path}', verify=self.vcenter.cacert, timeout=60,
            headers={'Cookie': cookie} if cookie else {},
            data=f'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/">{text}</e:Envelope>')

    def log_in(self):
        """:returns: the text of Set-Cookie, and the session's key"""
        reply = self.post('/sdk', f'''<e:Body><Login xmlns="urn:vim25"><_this type="SessionManager">{self.manager._moId}</_this>
            <userName>{self.vcenter.user}</userName><password>{self.vcenter.password}</password></Login></e:Body>''')
        return reply.headers['Set-Cookie'], reply.text.partition('<key>')[2].partition('</key>')[0]

    def time(self, cookie):
        return self.post('/sdk', '<e:Body><CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this>'
                         '</CurrentTime></e:Body>', cookie)

    def test_it_is_quoted_and_is_not_the_key(self):
        cookie, key = self.log_in()
        self.assertRegex(cookie, r'^vmware_soap_session="[0-9a-f]{40}"; Path=/; HttpOnly; Secure;$')
        self.assertEqual(36, len(key))
        self.assertEqual(200, self.time(cookie.partition(';')[0]).status_code)
        self.assertIn('NotAuthenticated', self.time(f'vmware_soap_session="{key}"').text)

    def test_it_is_set_at_the_login_only(self):
        cookie, _ = self.log_in()
        self.assertNotIn('Set-Cookie', self.time(cookie.partition(';')[0]).headers)
        self.assertNotIn('Set-Cookie', self.time('').headers)

    def test_the_policy_service_takes_it_without_the_quotes(self):
        quoted = self.log_in()[0].partition(';')[0].partition('=')[2]
        for value, fits in (quoted.strip('"'), True), (quoted, False):
            reply = self.post('/pbm/sdk', f'''<e:Header><vcSessionCookie>{value}</vcSessionCookie></e:Header><e:Body>
                <PbmQueryProfile xmlns="urn:pbm"><_this type="PbmProfileProfileManager">ProfileManager</_this>
                <resourceType><resourceType>STORAGE</resourceType></resourceType></PbmQueryProfile></e:Body>''')
            self.assertEqual(fits, 'NotAuthenticated' not in reply.text, reply.text)


class LimitTestCase(LoginsTestCase):
    """A vCenter has a limit of sessions (maxSessionCount; VMware's knowledge base, 375546); users have seen 503 beyond it."""

    flags = {'vm': 0, 'session_limit': 2}

    def test_one_session_too_many_is_answered_503(self):
        self.vcenter.connect()
        self.assertRaisesRegex(http.client.HTTPException, '503', self.vcenter.connect)
        self.manager.Logout()
        self.vcenter.connect()


class NewerFaultsTestCase(LoginsTestCase):
    """vCenter 9.1 says by three more faults that there is no session (its core-types.xsd: AuthenticationRequired ...)."""

    flags = {'vm': 0, 'api_version': '9.1.0.0', 'no_session_fault': 'SessionNotFound'}

    def test_a_call_after_the_end_gets_the_fault_of_the_flag(self):
        self.control.kill_sessions()
        self.assertRaises(vmodl.fault.SessionNotFound, self.client.CurrentTime)
        found = self.client.content.propertyCollector.RetrieveContents([PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=self.client.content.rootFolder)],
            propSet=[PC.PropertySpec(type=vim.Folder, pathSet=['name'])])])
        self.assertIsInstance(found[0].missingSet[0].fault, vmodl.fault.SessionNotFound)

    def test_each_can_be_asked_for(self):
        for name in 'AuthenticationRequired', 'SessionNotFound', 'InvalidToken':
            self.control.fault(method='CurrentTime', count=1, fault={'type': name})
            with self.assertRaises(vmodl.RuntimeFault) as caught:
                self.client.CurrentTime()
            self.assertEqual(name, type(caught.exception).__name__.rpartition('.')[2])


class BadTimeoutTestCase(unittest.TestCase):

    def test_a_bad_duration_is_refused(self):
        self.assertRaisesRegex(simulator_client.SimulatorError, 'session-timeout', simulator_client.Simulator(session_timeout='soon').start)
        self.assertRaisesRegex(simulator_client.SimulatorError, 'session-timeout', simulator_client.Simulator(session_timeout='-1s').start)
