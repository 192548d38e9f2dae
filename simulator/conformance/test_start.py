# SPDX-License-Identifier: Apache-2.0
"""The simulated vCenter starts, is what its flags say, and ends without a trace."""

import glob
import os
import ssl
import tempfile
import time
import unittest
from unittest import mock
import urllib.request

from pyVmomi import vim

from simulator import client as simulator_client

GIB = 1 << 30


def datastores(client):
    return {ds.name: ds for dc in client.content.rootFolder.childEntity for ds in dc.datastore}


class StartTestCase(unittest.TestCase):

    def test_defaults_are_those_of_vcsim_with_vmfs(self):
        with simulator_client.Simulator() as vcenter:
            client = vcenter.connect()
            self.assertEqual('8.0.3.0', client.content.about.apiVersion)
            self.assertEqual('8.0.3', client.content.about.version)
            self.assertEqual({'LocalDS_0'}, set(datastores(client)))
            self.assertEqual('VMFS', datastores(client)['LocalDS_0'].summary.type)

    def test_versions(self):
        for version in '7.0.3.0', '9.0.0.0':
            with self.subTest(version), simulator_client.Simulator(api_version=version) as vcenter:
                about = vcenter.connect().content.about
                self.assertEqual((version, version[:5]), (about.apiVersion, about.version))

    def test_a_flag_that_is_false_is_off(self):
        with simulator_client.Simulator(vm=1, autostart=False) as vcenter:
            client = vcenter.connect()
            view = client.content.viewManager.CreateContainerView(client.content.rootFolder, [vim.VirtualMachine], True)
            self.assertEqual({'poweredOff'}, {vm.runtime.powerState for vm in view.view})

    def test_capacity_of_all_and_of_one(self):
        with simulator_client.Simulator(ds=3, ds_capacity=['100GiB', 'LocalDS_2=1TiB']) as vcenter:
            sizes = {name: ds.summary.capacity // GIB for name, ds in datastores(vcenter.connect()).items()}
        self.assertEqual({'LocalDS_0': 100, 'LocalDS_1': 100, 'LocalDS_2': 1024}, sizes)

    def test_default_sizes_free_space_and_mounts_differ_and_the_first_is_mounted_everywhere(self):
        with simulator_client.Simulator(ds=5, cluster=2, vm=0) as vcenter:
            client = vcenter.connect()
            view = client.content.viewManager.CreateContainerView(client.content.rootFolder, [vim.HostSystem], True)
            found = datastores(client)
            self.assertEqual(5, len({ds.summary.capacity for ds in found.values()}))
            self.assertEqual(5, len({ds.summary.freeSpace for ds in found.values()}))
            self.assertEqual(len(view.view), len(found['LocalDS_0'].host))
            self.assertEqual(3, len({len(ds.host) for ds in found.values()}))

    def test_serves_the_wsdl_with_its_own_address(self):
        with simulator_client.Simulator(vm=0) as vcenter:
            url = f'https://{vcenter.host}:{vcenter.port}/sdk/vimService.wsdl'
            with urllib.request.urlopen(url, context=ssl.create_default_context(cafile=vcenter.cacert)) as reply:
                text = reply.read().decode()
            self.assertIn(f'location="https://{vcenter.host}:{vcenter.port}/sdk', text)
            self.assertIn('<operation name="CreateVM_Task">', text)
            self.assertNotIn('<import', text)

    def test_a_wrong_password_does_not_log_in(self):
        with simulator_client.Simulator(vm=0) as vcenter:
            vcenter.password = 'wrong'
            self.assertRaises(vim.fault.InvalidLogin, vcenter.connect)

    def test_task_delay_delays_each_task_once_and_none_for_another(self):
        with simulator_client.Simulator(vm=0, task_delay=500) as vcenter:
            client = vcenter.connect()
            datacenter = client.content.rootFolder.childEntity[0]
            pool = datacenter.hostFolder.childEntity[0].resourcePool

            def took(attempt):
                start = time.monotonic()
                tasks = [datacenter.vmFolder.CreateVM_Task(vim.vm.ConfigSpec(
                    name=f'vm-{attempt}-{i}', guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]')), pool)
                    for i in range(8)]
                while any(task.info.state == 'running' for task in tasks):
                    time.sleep(0.02)
                self.assertEqual({'success'}, {task.info.state for task in tasks})
                for task in tasks:
                    self.assertGreaterEqual((task.info.completeTime - task.info.startTime).total_seconds(), 0.5)
                return time.monotonic() - start
            # A busy machine adds to some attempts.
            self.assertTrue(any(took(attempt) < 8 * 0.5 for attempt in range(10)))

    def test_ends_with_its_files(self):
        with tempfile.TemporaryDirectory() as folder:
            os.environ['TMPDIR'], before = folder, os.environ.get('TMPDIR')
            try:
                tempfile.tempdir = None
                vcenter = simulator_client.Simulator().start()
                self.assertTrue(glob.glob(folder + '/*'))
                vcenter.stop()
                self.assertEqual([], glob.glob(folder + '/*'))
            finally:
                tempfile.tempdir = None
                del os.environ['TMPDIR']
                if before is not None:
                    os.environ['TMPDIR'] = before
            self.assertRaises(ProcessLookupError, os.kill, vcenter.pid, 0)


class BadInputTestCase(unittest.TestCase):

    def check(self, words, **flags):
        with self.assertRaises(simulator_client.SimulatorError) as caught:
            simulator_client.Simulator(**flags).start()
        lines = str(caught.exception).splitlines()
        self.assertEqual(2, len(lines), lines)
        for word in words:
            self.assertIn(word, lines[1])

    def test_each_names_the_flag_the_value_and_the_remedy(self):
        self.check(['-ds-capacity', '100parsecs', '100GiB'], ds_capacity='100parsecs')
        self.check(['-ds-capacity', 'Nowhere', 'LocalDS_0'], ds_capacity='Nowhere=1GiB')
        self.check(['-api-version', 'eight', '8.0.3.0'], api_version='eight')
        self.check(['-ds', '"0"', 'at least 1'], ds=0)
        self.check(['-control', '0.0.0.0:0', 'loopback'], control='0.0.0.0:0')
        self.check(['-method-delay', 'CreateVM_Task'], method_delay='CreateVM_Task')
        self.check(['-no-such-flag', '-help'], no_such_flag=1)
        self.check(['-tlskey'], tlscert='cert.pem')

    def test_a_program_that_is_not_there(self):
        with mock.patch.dict(os.environ, VCENTER_SIM='/nonexistent/vcenter-sim'):
            with self.assertRaisesRegex(simulator_client.SimulatorError, 'make simulator'):
                simulator_client.Simulator().start()
