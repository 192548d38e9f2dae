# SPDX-License-Identifier: Apache-2.0
"""What tests of QoS specs through Cinder's API need, and one short test."""

import time
import uuid

from cinderclient import exceptions as api_errors
from pyVmomi import vim

from sandbox import attachments

#: Limit, level of shares, shares and reservation of a disk without QoS specs.
DEFAULT = (-1, 'normal', 1000, 0)
# The driver looks every two seconds while a volume is being attached.
SECONDS = 240


class QosCase:
    """Mixed into a SandboxCase.

    pyVmomi reads the disks' storageIOAllocation.
    """

    def qos_type(self, consumer='back-end', backend='vcenter', **specs):
        """A volume type with QoS specs, made by the `cinder` program.

        :returns: the type's name, which is that of the specs as well
        """
        name = uuid.uuid4().hex
        run = self.clients.cinder
        run('type-create', name)
        if len(self.sandbox.backends) > 1:
            run('type-key', name, 'set', f'volume_backend_name={backend}')
        if specs:
            run('qos-create', name, f'consumer={consumer}',
                *(f'{key}={value}' for key, value in specs.items()))
            run('qos-associate', self.specs_id(name),
                self.cinder.volume_types.find(name=name).id)
        return name

    def specs_id(self, name):
        return self.cinder.qos_specs.find(name=name).id

    def allocation(self, moref, path=None):
        """(limit, level, shares, reservation) of a VM's only or one disk."""
        vm = vim.VirtualMachine(moref, self.inspector.service._stub)
        found, = [device.storageIOAllocation for device
                  in vm.config.hardware.device
                  if isinstance(device, vim.vm.device.VirtualDisk)
                  and path in (None, device.backing.fileName)]
        return (found.limit, found.shares.level, found.shares.shares,
                found.reservation)

    def of_shadow(self, volume):
        return self.allocation(self.inspector.shadow_vms()[volume.id].moref)

    def on_instance(self, attachment):
        return self.allocation(attachment.instance_moref, attachment.path)

    def wait_for(self, wanted, attachment):
        """Wait until the instance's disk has an allocation."""
        deadline = time.monotonic() + SECONDS
        while (self.on_instance(attachment) != wanted
                and time.monotonic() < deadline):
            time.sleep(0.3)
        self.assertEqual(wanted, self.on_instance(attachment))

    def settled(self, volume, *statuses):
        """Wait for a status; Cinder goes through several."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            volume = self.cinder.volumes.get(volume.id)
            if volume.status in statuses:
                return volume
            time.sleep(0.2)
        self.fail(f'{volume.id} is {volume.status}, not {statuses}')

    def lines(self, *words):
        """Lines of our own in the services' log that have all the words."""
        return [line for line
                in self.sandbox.cinder_log.read_text().splitlines()
                # Cinder's own lines may name our classes, after the request.
                if ' cinder_vmdk_ext.' in line.partition('[')[0]
                and all(word in line for word in words)]

    def messages(self, volume):
        """What `openstack volume message list` tells about a volume."""
        return [each['User Message'] for each in self.clients.openstack_json(
            'volume', 'message', 'list') if each['Resource UUID'] == volume.id]

    def test_qos_specs_reach_the_disk(self):
        gold = self.qos_type(total_iops_sec=500, disk_io_shares_level='high')
        both = self.qos_type('both', disk_io_limit=300, read_iops_sec=7)
        wrong = self.qos_type(total_iops_sec=500, disk_io_burst=3)
        attacher = attachments.Attacher(self.clients, self.inspector)
        broken, volume, other = (
            self.keep(self.cinder.volumes, self.cinder.volumes.create(
                1, volume_type=name)) for name in (wrong, gold, both))
        volume = self.settled(volume, 'available')
        self.assertEqual((500, 'high', 2000, 0), self.of_shadow(volume))
        attached = attacher.attach(volume.id, attacher.instances()[0])
        self.wait_for((500, 'high', 2000, 0), attached)
        # A change of what a front end may act on is refused by Cinder's API.
        with self.assertRaises(api_errors.BadRequest):
            self.cinder.volumes.retype(volume, both, 'never')
        self.cinder.volumes.retype(volume, 'thin', 'never')
        volume = self.settled(volume, 'in-use')
        self.assertEqual(('thin', DEFAULT),
                         (volume.volume_type, self.on_instance(attached)))
        other = self.settled(other, 'available')
        self.assertEqual(300, self.of_shadow(other)[0])
        warning, = self.lines(' WARNING ', f'QoS specs {both} ')
        self.assertIn('read_iops_sec have no effect', warning)
        self.settled(broken, 'error')
        error, = self.lines(' ERROR ', broken.id)
        self.assertIn('vSphere has no disk_io_burst for a disk; perhaps '
                      'disk_io_limit is meant', error)
        message, = self.messages(broken)
        self.assertIn('Driver failed to create the volume', message)
        attacher.detach(attached)
        self.settled(volume, 'available')
