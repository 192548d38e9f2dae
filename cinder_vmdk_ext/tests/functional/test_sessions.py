# SPDX-License-Identifier: Apache-2.0
"""The session with a simulated vCenter: threads, faults of the network and
logins.

With the environment variable VMDK_EXT_TEST_SESSION=oslo.vmware the session of
oslo.vmware is tested in place of ours. Most of these tests then fail, which
is the reason for our own session. VMDK_EXT_TEST_CALLS=10000 makes the long
form of the test of threads.
"""

import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

from oslo_log import log as oslo_logging
from oslo_vmware import api
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import pbm
from oslo_vmware import vim_util
from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import faulty_proxy
from cinder_vmdk_ext.vsphere import accounts
from cinder_vmdk_ext.vsphere import session
from cinder_vmdk_ext.vsphere import tagging
from cinder_vmdk_ext.vsphere import transport
from sandbox import service_user
from simulator.conformance import vcenter_case
from simulator import control

THREADS = 50
CALLS = int(os.environ.get('VMDK_EXT_TEST_CALLS', 3000))
POLICY_CALLS = CALLS // 15
UPSTREAM = os.environ.get('VMDK_EXT_TEST_SESSION') == 'oslo.vmware'


# Each logs in as the process of a backend does.
SIX_PROCESSES = '''
import os, sys
from cinder_vmdk_ext.vsphere import accounts, session
host, port, user, cacert, folder = sys.argv[1:]
children = []
for _ in range(6):
    child = os.fork()
    if child:
        children.append(child)
        continue
    try:
        session.Session(
            host, user, 'old', 3, 0.1, port=int(port), cacert=cacert,
            insecure=False, account=accounts.of(host, int(port), user, 'old',
                                                folder))
    except Exception as error:
        os.write(1, f'{error.fault_list}\\n'.encode())
    os._exit(0)
for child in children:
    os.waitpid(child, 0)
'''


class SessionCase(vcenter_case.VCenterCase):
    """A session, the simulator's faults, and pyVmomi to look."""

    # oslo.vmware sends it so
    lenient = 'quoted-policy-cookie' if UPSTREAM else ()
    flags = {'ds': 3, 'host': 2, 'vm': 2}

    def setUp(self):
        super().setUp()
        self.sim = control.Control(self.vcenter.control_url)
        self.addCleanup(self.sim.reset_faults)

    @classmethod
    def log_in(cls, port=None, password=None, **options):
        """A session; options are those that oslo.vmware's has not."""
        # A refusal is to be no other test's.
        options.setdefault('account', accounts.Account())
        if UPSTREAM:
            options = {}
        login = service_user.of(cls.vcenter)
        made = (api.VMwareAPISession if UPSTREAM else session.Session)(
            cls.vcenter.host, login.user, password or login.password, 3, 0.1,
            port=port or cls.vcenter.port, cacert=cls.vcenter.cacert,
            insecure=False, pool_size=THREADS, **options)
        cls.addClassCleanup(made.logout)
        return made

    def name_of(self, made, ref):
        return made.invoke_api(vim_util, 'get_object_property', made.vim,
                               ref, 'name')

    def vm_ref(self):
        return vim_util.get_moref(
            self.all(vim.VirtualMachine)[0]._moId, 'VirtualMachine')

    def count(self, method):
        """How often a method was called since the journal was reset."""
        return self.sim.journal()['methods'].get(method, {}).get('calls', 0)

    def assertFast(self, seconds, attempt):
        """Of several attempts one is; a busy machine adds to others.

        :param attempt: returns how many seconds it took
        """
        took = [attempt()]
        while took[-1] >= seconds and len(took) < 10:
            took.append(attempt())
        self.assertLess(took[-1], seconds)

    def in_threads(self, work, threads=THREADS):
        """Run work(number) in as many threads; what they returned."""
        results = {}

        def run(number):
            try:
                results[number] = work(number)
            except Exception as error:
                results[number] = error

        started = [threading.Thread(target=run, args=(number,))
                   for number in range(threads)]
        for each in started:
            each.start()
        for each in started:
            each.join(600)
        self.assertEqual(threads, len(results), 'a thread hangs')
        return list(results.values())


class ThreadsTestCase(SessionCase):
    """Calls of many threads through one session."""

    def test_every_thread_gets_the_reply_to_its_own_call(self):
        made = self.log_in()
        # The mix makes it: what a large reply is being unmarshalled for is
        # overwritten by the small ones that come meanwhile.
        names = {ref: self.name_of(made, ref) for kind in (
            'Datastore', 'HostSystem', 'VirtualMachine')
            for ref in self.refs(made, kind)}
        vms = len(self.refs(made, 'VirtualMachine'))
        left = iter(range(CALLS))
        wrong = []

        def work(_number):
            dice = random.Random()
            for _ in left:
                ref = dice.choice(list(names))
                try:
                    if dice.random() < .1:
                        found = len(made.invoke_api(
                            vim_util, 'get_objects', made.vim,
                            'VirtualMachine', 100,
                            ['name', 'summary', 'config.hardware']).objects)
                        good = found == vms
                    elif dice.random() < .2:
                        found = made.invoke_api(made.vim, 'CurrentTime',
                                                'ServiceInstance')
                        good = hasattr(found, 'year')
                    else:
                        found = self.name_of(made, ref)
                        good = found == names[ref]
                except Exception as error:
                    found, good = error, False
                if not good:
                    wrong.append(found)

        self.take_turns_often()
        self.in_threads(work)
        self.assertEqual([], wrong, f'{len(wrong)} of {CALLS} replies')

    def test_the_storage_policy_service_keeps_replies_apart_too(self):
        made = self.log_in()
        made.pbm_wsdl_loc_set(pbm.get_pbm_wsdl_location('8.0'))
        names = {each.profileId.uniqueId: each.name
                 for each in pbm.get_all_profiles(made)}
        manager = made.pbm.service_content.profileManager
        ids = [each.profileId for each in pbm.get_all_profiles(made)]
        left = iter(range(POLICY_CALLS))
        wrong = []

        def work(number):
            for turn in left:
                one = ids[number % len(ids)]
                asked = ids if turn % 3 == 0 else [one]
                try:
                    found = [each.name for each in made.invoke_api(
                        made.pbm, 'PbmRetrieveContent', manager,
                        profileIds=asked)]
                except Exception as error:
                    found = error
                if found != [names[each.uniqueId] for each in asked]:
                    wrong.append(found)

        self.take_turns_often()
        self.in_threads(work, 20)
        self.assertEqual([], wrong, f'{len(wrong)} of {POLICY_CALLS} replies')

    def take_turns_often(self):
        """Threads then do so within a call too, as on a busy machine."""
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(0.0005)

    def refs(self, made, kind):
        return [each.obj for each in made.invoke_api(
            vim_util, 'get_objects', made.vim, kind, 100, ['name']).objects]


class LostSessionTestCase(SessionCase):
    """The vCenter ends the session."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = cls.log_in()

    def setUp(self):
        super().setUp()
        self.vm = self.vm_ref()
        self.name = self.name_of(self.made, self.vm)

    def lose(self):
        """End our session, and not that of pyVmomi."""
        ours = self.made._session_id
        self.content.sessionManager.TerminateSession([ours])
        self.sim.reset_journal()

    def test_all_calls_go_on_within_seconds_after_one_login(self):
        def attempt():
            self.lose()
            start = time.monotonic()
            names = self.in_threads(
                lambda _: self.name_of(self.made, self.vm), 20)
            took = time.monotonic() - start
            self.assertEqual([self.name] * 20, names)
            self.assertEqual(1, self.count('Login'))
            return took
        self.assertFast(5, attempt)

    def test_a_denied_change_is_made_once_after_the_login(self):
        self.lose()
        task = self.made.invoke_api(
            self.made.vim, 'CreateSnapshot_Task', self.vm, name='denied',
            memory=False, quiesce=False)
        self.made.wait_for_task(task)
        snapshots = self.all(vim.VirtualMachine)[0].snapshot
        self.assertEqual(['denied'], [each.name for each
                                      in snapshots.rootSnapshotList])

    def test_the_storage_policy_service_goes_on_too(self):
        self.made.pbm_wsdl_loc_set(pbm.get_pbm_wsdl_location('8.0'))
        before = [each.name for each in pbm.get_all_profiles(self.made)]

        def attempt():
            self.lose()
            start = time.monotonic()
            self.assertEqual(
                before,
                [each.name for each in pbm.get_all_profiles(self.made)])
            return time.monotonic() - start
        self.assertFast(8, attempt)

    def test_nothing_is_taken_for_an_empty_result(self):
        """One thread logs in anew while the denial of another arrives: the
        session is then good, and still the call was denied.
        """
        for _ in range(5):
            self.lose()
            self.assertEqual([self.name] * 10, self.in_threads(
                lambda _: self.name_of(self.made, self.vm), 10))

    def test_what_is_empty_stays_empty(self):
        folder = vim_util.get_moref(self.content.rootFolder._moId, 'Folder')
        found = self.made.invoke_api(
            self.made.vim, 'FindByInventoryPath',
            self.made.vim.service_content.searchIndex,
            inventoryPath='no/such/path')
        self.assertFalse(found)
        self.assertEqual('Datacenters', self.name_of(self.made, folder))

    def test_the_session_that_was_replaced_is_not_left_behind(self):
        before = len(self.sim.sessions())
        for _ in range(3):
            self.made.renew(self.made._session_id)
        self.assertEqual(before, len(self.sim.sessions()))


class LostReplyTestCase(SessionCase):
    """The vCenter executes a call, and the reply is lost."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = cls.log_in()

    def setUp(self):
        super().setUp()
        self.vm = self.vm_ref()
        self.name_of(self.made, self.vm)

    def snapshot(self, name):
        return self.made.invoke_api(
            self.made.vim, 'CreateSnapshot_Task', self.vm, name=name,
            memory=False, quiesce=False)

    def snapshots(self, name):
        found = self.all(vim.VirtualMachine)[0].snapshot
        left = list(found.rootSnapshotList) if found else []
        names = []
        while left:
            each = left.pop()
            names.append(each.name)
            left += each.childSnapshotList
        return names.count(name)

    def test_a_change_is_not_repeated_blindly(self):
        self.sim.fault(method='CreateSnapshot_Task', count=1, cut='after')
        with self.assertRaises(exceptions.OutcomeUnknown) as caught:
            self.snapshot('once')
        self.until(lambda: self.snapshots('once') > 0)
        self.assertEqual(1, self.snapshots('once'))
        self.assertEqual('CreateSnapshot_Task', caught.exception.method)
        self.assertEqual(self.vm.value, caught.exception.target)
        self.assertIn('check its effect', str(caught.exception))

    def test_a_clone_is_not_made_twice(self):
        factory = self.made.vim.client.factory
        spec = factory.create('ns0:VirtualMachineCloneSpec')
        spec.location = factory.create('ns0:VirtualMachineRelocateSpec')
        spec.powerOn = spec.template = False
        folder = vim_util.get_moref(self.datacenter.vmFolder._moId, 'Folder')
        self.sim.reset_journal()
        self.sim.fault(method='CloneVM_Task', count=1, cut='after')
        with self.assertRaises(exceptions.OutcomeUnknown):
            self.made.invoke_api(self.made.vim, 'CloneVM_Task', self.vm,
                                 folder=folder, name='clone', spec=spec)
        self.assertEqual(1, self.count('CloneVM_Task'))

    def test_a_change_that_may_have_been_executed_is_not_repeated(self):
        """From here it cannot be seen that it was not."""
        self.sim.reset_journal()
        self.sim.fault(method='CreateSnapshot_Task', count=1, cut='before')
        with self.assertRaises(exceptions.OutcomeUnknown):
            self.snapshot('never')
        self.assertEqual(0, self.snapshots('never'))

    def test_a_read_is_repeated_at_once(self):
        name = self.name_of(self.made, self.vm)

        def attempt():
            self.sim.fault(method='RetrievePropertiesEx', count=2,
                           cut='after')
            start = time.monotonic()
            self.assertEqual(name, self.name_of(self.made, self.vm))
            return time.monotonic() - start
        self.assertFast(5, attempt)

    def test_what_another_time_does_no_harm_is_repeated(self):
        folder = vim_util.get_moref(self.datacenter.vmFolder._moId, 'Folder')
        self.sim.fault(method='CreateFolder', count=1, cut='after')
        with self.assertRaises(vmware_exceptions.DuplicateName):
            self.made.invoke_api(self.made.vim, 'CreateFolder', folder,
                                 name='twice')

    def test_a_task_that_the_vcenter_forgot_has_an_unknown_outcome(self):
        task = vim_util.get_moref('task-9999', 'Task')
        with self.assertRaises(exceptions.OutcomeUnknown):
            self.made.wait_for_task(task)


class NetworkTestCase(SessionCase):
    """Something is wrong between us and the vCenter."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.proxy = cls.enterClassContext(
            faulty_proxy.FaultyProxy(cls.vcenter.port))
        cls.made = cls.log_in(cls.proxy.port, timeouts_seconds=(1, 1),
                              patience_seconds=20)
        cls.addClassCleanup(cls.proxy.pass_on)

    def setUp(self):
        super().setUp()
        self.proxy.cut()
        self.proxy.pass_on()
        self.made._api_retry_count = 3
        self.vm = self.vm_ref()
        self.name = self.name_of(self.made, self.vm)

    def test_a_silent_vcenter_does_not_hang_a_call(self):
        self.proxy.keep_silent()
        start = time.monotonic()
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            self.name_of(self.made, self.vm)
        self.assertLess(time.monotonic() - start, 60)
        self.proxy.cut()
        self.proxy.pass_on()
        self.assertEqual(self.name, self.name_of(self.made, self.vm))

    def test_a_silent_vcenter_does_not_hang_a_login(self):
        self.proxy.keep_silent()
        start = time.monotonic()
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            self.log_in(self.proxy.port, timeouts_seconds=(1, 1))
        self.assertLess(time.monotonic() - start, 60)

    def test_an_unreachable_vcenter_ends_in_an_error(self):
        self.proxy.refuse()
        start = time.monotonic()
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            self.name_of(self.made, self.vm)
        with self.assertRaises(vmware_exceptions.VimConnectionException):
            self.made._create_session()
        self.assertLess(time.monotonic() - start, 60)

    def test_calls_outlast_a_short_interruption(self):
        """Changes too: a connection that was refused carried none."""
        self.proxy.refuse()
        timer = threading.Timer(1, self.proxy.pass_on)
        timer.start()
        self.addCleanup(timer.join)
        self.made._api_retry_count = 10
        task = self.made.invoke_api(
            self.made.vim, 'CreateSnapshot_Task', self.vm, name='patient',
            memory=False, quiesce=False)
        self.made.wait_for_task(task)

    def test_a_task_is_waited_for_through_an_interruption(self):
        rule = self.sim.fault(method='CreateSnapshot_Task', count=1,
                              task_hang=True)
        task = self.made.invoke_api(
            self.made.vim, 'CreateSnapshot_Task', self.vm, name='long',
            memory=False, quiesce=False)

        def interrupt():
            time.sleep(1)
            self.proxy.refuse()
            time.sleep(5)
            self.proxy.pass_on()
            time.sleep(1)
            self.sim.release(rule)
        interruption = threading.Thread(target=interrupt)
        interruption.start()
        self.addCleanup(interruption.join)
        self.assertEqual('success', self.made.wait_for_task(task).state)

    def test_a_vcenter_that_vanishes_ends_the_wait_for_a_task(self):
        rule = self.sim.fault(method='CreateSnapshot_Task', count=1,
                              task_hang=True)
        self.addCleanup(self.sim.release, rule)
        self.enterContext(mock.patch.object(
            self.made, '_task_patience_seconds', 1))
        task = self.made.invoke_api(
            self.made.vim, 'CreateSnapshot_Task', self.vm, name='gone',
            memory=False, quiesce=False)
        timer = threading.Timer(1, self.proxy.refuse)
        timer.start()
        self.addCleanup(timer.join)
        with self.assertRaises(exceptions.OutcomeUnknown):
            self.made.wait_for_task(task)


class LoginTestCase(SessionCase):
    """Logging in and out."""

    def setUp(self):
        super().setUp()
        self.tag_logins = []

    def test_logout_leaves_nothing_behind(self):
        before = len(self.sim.sessions())
        made = [self.log_in() for _ in range(2)]
        self.assertEqual(before + 2, len(self.sim.sessions()))
        for each in made:
            each.logout()
        self.assertEqual(before, len(self.sim.sessions()))

    def test_a_closed_session_is_not_opened_by_a_late_call(self):
        made = self.log_in()
        ref = self.vm_ref()
        before = len(self.sim.sessions())
        made.logout()
        with self.assertRaises(vmware_exceptions.VimException):
            self.name_of(made, ref)
        self.assertEqual(before - 1, len(self.sim.sessions()))

    def test_a_refused_login_is_not_repeated_by_every_thread(self):
        """It would lock the account."""
        made, ref = self.log_in(), self.vm_ref()
        self.sim.fault(method='Login', fault={'type': 'InvalidLogin'})
        self.content.sessionManager.TerminateSession([made._session_id])
        self.sim.reset_journal()
        errors = self.in_threads(lambda _: self.name_of(made, ref), 20)
        self.assertEqual({('InvalidLogin',)},
                         {tuple(each.fault_list) for each in errors})
        self.assertEqual(1, self.count('Login'))

    def test_of_six_processes_one_tries_an_old_password(self):
        """Cinder runs a process for each backend."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.sim.reset_journal()
        ended = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', SIX_PROCESSES,
             self.vcenter.host, str(self.vcenter.port), self.vcenter.user,
             self.vcenter.cacert, folder.name],
            capture_output=True, text=True, timeout=600)
        self.assertEqual(6, ended.stdout.count('InvalidLogin'),
                         ended.stdout + ended.stderr)
        self.assertEqual(1, self.count('Login'))

    def test_an_old_password_in_three_hosts_locks_no_account(self):
        """Five refusals in three minutes lock it; ten minutes go by."""
        now = 0.0
        services = [self.host_with_an_old_password(lambda: now)
                    for _ in range(3)]
        tried = []
        self.sim.reset_journal()
        while now < 600:
            before = self.count('Login') + len(self.tag_logins)
            for callers in services:
                for call in callers:
                    with self.assertRaises(Exception):  # noqa: H202
                        call()
            tried += [now] * (self.count('Login') + len(self.tag_logins)
                              - before)
            now += 20
        self.assertGreaterEqual(len(tried), 6, tried)
        for begin in tried:
            self.assertLess(len([at for at in tried
                                 if begin <= at <= begin + 180]), 5, tried)

    def host_with_an_old_password(self, clock):
        """What a host with two backends, one of them with a tag, calls."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        account, other = (
            accounts.Account(clock, accounts.SharedRefusals(
                folder.name, 'me', clock)) for _ in range(2))
        sessions = [self.log_in(password='old', account=each, clock=clock,
                                create_session=False)
                    for each in (account, other)]
        https = transport.Transport(
            self.vcenter.host, self.vcenter.port,
            transport.Trust(ca_file=self.vcenter.cacert))
        tags = tagging.Service(https, self.vcenter.user, 'old', account)
        ask = https.request

        def request(method, path, **details):
            if path.endswith('/session') and method == 'POST':
                self.tag_logins.append(path)
            return ask(method, path, **details)

        https.request = request
        return [tags.tags, *(made._create_session for made in sessions)]

    def test_logins_refused_for_a_while_are_taken_up_again(self):
        made, ref = self.log_in(), self.vm_ref()
        name = self.name_of(made, ref)
        rule = self.sim.fault(method='Login', fault={'type': 'InvalidLogin'})
        self.content.sessionManager.TerminateSession([made._session_id])
        with self.assertRaises(vmware_exceptions.VimFaultException):
            self.name_of(made, ref)
        self.sim.remove_fault(rule)
        now = time.monotonic()
        made._account._clock = (
            lambda: now + accounts.FIRST_PAUSE_SECONDS + 1)
        self.assertEqual(name, self.name_of(made, ref))

    def test_the_password_is_nowhere_to_be_read(self):
        lines = []

        class Keeper(logging.Handler):
            def emit(self, record):
                lines.append(self.format(record))

        root = logging.getLogger()
        keeper = Keeper(logging.DEBUG)
        # Everything, also what Cinder keeps quiet by default.
        names = ['', 'suds', 'oslo_vmware', 'urllib3', 'requests',
                 'cinder_vmdk_ext', 'suds.client', 'suds.transport']
        for name in names:
            found = logging.getLogger(name)
            self.addCleanup(found.setLevel, found.level)
            found.setLevel(logging.DEBUG)
        root.addHandler(keeper)
        self.addCleanup(root.removeHandler, keeper)
        self.assertTrue(oslo_logging.getLogger('cinder_vmdk_ext'))

        wrong = 'no<such>&"password'
        with self.assertRaises(vmware_exceptions.VimFaultException) as caught:
            self.log_in(password=wrong)
        lines += [str(caught.exception), repr(caught.exception)]
        made = self.log_in()
        lines += [repr(made), str(made)]
        self.name_of(made, self.vm_ref())
        text = '\n'.join(lines)
        self.assertIn('Login', text)
        for secret in (wrong, 'no&lt;such&gt;', f'>{self.vcenter.password}<',
                       f"'{self.vcenter.password}'"):
            self.assertNotIn(secret, text)
