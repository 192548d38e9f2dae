# SPDX-License-Identifier: Apache-2.0
"""Volume types with a storage policy, on Cinder's stock scheduler.

    make policies-run

Two of five datastores comply with the policy, and the scheduler does not know
that. All volumes must become available, on datastores that comply, with the
right hosts: volumes whose disks are created at once, and volumes whose disks
are created when instances of both compute resources attach them.
"""

import collections
from concurrent import futures
import sys
import unittest

import sandbox
from sandbox import attachments
from sandbox.tests import sandbox_case
from simulator import observer

VOLUMES = 50
GOLD = {'LocalDS_1', 'LocalDS_3'}


class PoliciesTestCase(sandbox_case.SandboxCase):

    SIMULATOR = ['-ds', '5', '-ds-capacity', '400GiB',
                 '-policy', 'gold=' + ','.join(sorted(GOLD))]
    arguments = {'extra_backends': [sandbox.Backend(
        'lazy', options={'vmware_lazy_create': True})]}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for backend in 'vcenter', 'lazy':
            cls.cinder.volume_types.create(f'gold-{backend}').set_keys({
                'volume_backend_name': backend,
                'vmware:storage_profile': 'gold'})

    def made(self, volume_type):
        """Volumes of a type, made many at a time."""
        with futures.ThreadPoolExecutor(10) as executor:
            made = list(executor.map(
                lambda number: self.cinder.volumes.create(
                    1, volume_type=volume_type), range(VOLUMES)))
        found = [self.clients.settled_volume(volume.id) for volume in made]
        self.assertEqual({'available'}, {volume.status for volume in found})
        pools = collections.Counter(map(self.pool, found))
        print(f'{volume_type}: {VOLUMES} available on {dict(pools)}',
              file=sys.stderr)
        self.assertEqual(GOLD, set(pools))
        return found

    @staticmethod
    def pool(volume):
        return getattr(volume, 'os-vol-host-attr:host').partition('#')[2]

    def assert_complies(self, volume, shadow_vms):
        machine = shadow_vms[volume.id]
        self.assertEqual([self.pool(volume)],
                         [disk.datastore for disk in machine.disks])
        service = observer.policy_service(self.sandbox.vcenter,
                                          self.inspector.service)
        vm = attachments.vim.VirtualMachine(
            machine.moref, self.inspector.service._stub)
        for device in vm.config.hardware.device:
            if isinstance(device, attachments.vim.vm.device.VirtualDisk):
                self.assertEqual(['gold'], observer.policies_of_disk(
                    service, vm, device))

    def test_disks_that_are_made_at_once(self):
        made = self.made('gold-vcenter')
        shadow_vms = self.inspector.shadow_vms()
        for volume in made:
            self.assert_complies(volume, shadow_vms)

    def test_disks_that_are_made_when_attached(self):
        made = self.made('gold-lazy')
        attacher = attachments.Attacher(self.clients, self.inspector)
        instances = attacher.instances()
        by_resource = {
            attachments.vim.VirtualMachine(
                each.moref, self.inspector.service._stub
            ).runtime.host.parent.name: each for each in instances}
        self.assertEqual(2, len(by_resource), by_resource)
        places = [self.pool(volume) for volume in made]
        for number, volume in enumerate(made[:20]):
            instance = list(by_resource.values())[number % 2]
            attacher.attach(volume.id, instance)
        found = [self.clients.settled_volume(volume.id) for volume in made]
        self.assertEqual(places, [self.pool(volume) for volume in found])
        shadow_vms = self.inspector.shadow_vms()
        for volume in found[:20]:
            self.assertEqual('in-use', volume.status)
            self.assert_complies(volume, shadow_vms)


if __name__ == '__main__':
    unittest.main()
