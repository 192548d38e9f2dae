# SPDX-License-Identifier: Apache-2.0
"""Words for the tests of storage: guests' writes, checksums, and the sum over the files after every step."""

import hashlib
import json
import random
import urllib.error
import urllib.parse
import urllib.request

from pyVmomi import vim

from simulator.conformance import vcenter_case

GIB = vcenter_case.GIB
MIB = vcenter_case.MIB


class StorageCase(vcenter_case.VCenterCase):
    """After each test, and wherever check_space() stands, what is known of the datastores equals the sum over their files."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.check_space)

    def check_space(self):
        """Ask GET /space of the control endpoint, which measures the files themselves."""
        try:
            answer = self.control('GET', '/space')
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
            wrong = [each for each in json.loads(error.read())['datastores'] if not each['ok']]
            self.fail(f'figures and files disagree: {wrong}')
        self.assertEqual(0, sum(each['reserved_bytes'] for each in answer['datastores']))

    def free(self, name='LocalDS_0'):
        return self.refreshed(name).summary.freeSpace

    def uncommitted(self, name='LocalDS_0'):
        return self.refreshed(name).summary.uncommitted or 0

    # Disks, by "[datastore] path"

    @staticmethod
    def _query(path, **more):
        datastore, file = path[1:].split('] ')
        return urllib.parse.urlencode({'datastore': datastore, 'path': file, **more})

    def guest_writes(self, path, data, offset=0):
        """Write as a guest would.

        :returns: the HTTP status; 507 if the datastore is full
        """
        request = urllib.request.Request(
            f'{self.vcenter.control_url}/disk?{self._query(path, offset=offset)}', method='PUT', data=data)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code

    def guest_reads(self, path, length, offset=0):
        url = f'{self.vcenter.control_url}/disk?{self._query(path, offset=offset, length=length)}'
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.read()

    def checksum(self, path):
        """:returns: SHA-256 of the whole disk, zeros included"""
        return self.control('GET', f'/disk/checksum?{self._query(path)}')['sha256']

    def grains(self, path):
        """:returns: a checksum of a large disk that takes no time; as grain_sum()"""
        return self.control('GET', f'/disk/checksum?{self._query(path, grains=1)}')['sha256']

    def disk_info(self, path):
        return self.control('GET', f'/disk/info?{self._query(path)}')

    def there(self, path):
        try:
            self.disk_info(path)
        except urllib.error.HTTPError as error:
            self.assertEqual(404, error.code)
            return False
        return True

    # Virtual machines with disks

    def vm_with_disk(self, datastore='LocalDS_0', size_mib=16, data=b'', **backing):
        """:returns: a virtual machine of the test's name with one disk, and the disk's path"""
        vm = self.make_vm(self.id().rsplit('.', 1)[1][-40:] + f'-{random.randrange(1 << 32):08x}', datastore)
        self.addCleanup(self.gone, vm)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[self.new_disk(size_mib, 0, **backing)])))
        path = self.path_of(vm)
        if data:
            self.assertEqual(204, self.guest_writes(path, data))
        return vm, path

    def gone(self, vm):
        """Remove a virtual machine, if the test has not."""
        if any(each._moId == vm._moId for each in self.all(vim.VirtualMachine)):
            self.destroy(vm)

    def path_of(self, vm, index=0):
        return self.disks(vm)[index].backing.fileName

    def clone(self, vm, name, **location):
        """:returns: the clone, and its first disk's path"""
        snapshot = location.pop('snapshot', None)
        config = location.pop('config', None)
        template = location.pop('template', False)
        spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(pool=self.pool, **location), powerOn=False, template=template,
                                snapshot=snapshot, config=config)
        clone = self.wait(vm.Clone(folder=self.datacenter.vmFolder, name=name, spec=spec))
        self.addCleanup(self.gone, clone)
        return clone, self.path_of(clone)

    def snapshot(self, vm, name='snap'):
        return self.wait(vm.CreateSnapshot(name=name, description='', memory=False, quiesce=False))


def noise(size, seed=1):
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def sha256(data, size=None):
    """Of data followed by zeros up to a size."""
    digest = hashlib.sha256(data)
    if size is not None:
        digest.update(bytes(size - len(data)))
    return digest.hexdigest()


def grain_sum(data, size):
    """SHA-256 of the grains of 64 KiB that are not all zeros, each after its offset, and of the size."""
    digest = hashlib.sha256()
    zeros = bytes(64 << 10)
    for offset in range(0, len(data), 64 << 10):
        grain = data[offset:offset + (64 << 10)].ljust(64 << 10, b'\0')
        if grain != zeros:
            digest.update(offset.to_bytes(8, 'big') + grain)
    digest.update(size.to_bytes(8, 'big'))
    return digest.hexdigest()
