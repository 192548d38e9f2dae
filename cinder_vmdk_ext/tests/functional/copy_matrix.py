# SPDX-License-Identifier: Apache-2.0
"""Runs each way to copy a volume, and finds what the copy keeps.

``make copy-matrix`` writes docs/copies.md.
"""

import itertools
import pathlib
import ssl
import sys
import unittest
from typing import Any
from typing import NamedTuple

from pyVmomi import pbm
from pyVmomi import SoapStubAdapter
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_transfers
from sandbox.embedded import section

PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'copies.md'
ADAPTERS = {'lsiLogic': 'VirtualLsiLogicController',
            'busLogic': 'VirtualBusLogicController',
            'lsiLogicsas': 'VirtualLsiLogicSASController',
            'paraVirtual': 'ParaVirtualSCSIController',
            'ide': 'VirtualIDEController'}
FORMS = ('thin', 'thick', 'eagerZeroedThick')
# The values of a type that specifies all; those of the sources differ.
NAMED = {'adapter_type': 'busLogic', 'vmdk_type': 'thick',
         'storage_profile': 'silver'}
# Devices that each VM has, and the disk.
PLAIN = frozenset({
    'VirtualIDEController', 'VirtualPS2Controller', 'VirtualPCIController',
    'VirtualSIOController', 'VirtualKeyboard', 'VirtualPointingDevice',
    'VirtualVideoCard', 'VirtualVMCIDevice', 'VirtualDisk'})
OURS = ('cinder.', 'vmdk-ext.')
REFUSALS = (exception.InvalidVolume, exception.InvalidSnapshot,
            exception.ManageExistingVolumeTypeMismatch,
            exceptions.NoPlacement)

HEAD = '''\
# What a copy keeps

`make copy-matrix` writes this page. It runs each way to copy a volume on the
simulated vCenter: with each adapter and each disk type, with and without a
storage policy of the source, with a volume type that specifies none of the
three and with one that specifies all, and with a detached and an attached
source. `make test` runs a part of it. pyVmomi checks the copies.

The rules, which are in `cinder_vmdk_ext/backings/copy_policy.py`:

- **The adapter** is the source's, unless the volume type specifies one
  (`vmware:adapter_type`). The option `vmware_adapter_type` applies to new
  empty disks, and to disks of an image that specifies none. The adapter of an
  attached volume is that of its shadow VM, whatever controller the instance
  uses.
- **The disk type** is the volume type's; `thin` if it specifies none, because
  the scheduler then counts the disk as thin. Snapshots, linked clones, managed
  disks and moves keep the disk's type.
- **The storage policy** is the volume type's, or none. Moves and reverts to a
  COW snapshot keep the disk's policy.
- **Everything else is not copied.** The copy of an attached volume has nothing
  of the instance (CD-ROM, network cards, serial ports, other disks and
  controllers, all extra configuration, annotation, hardware version, memory,
  limits of the disk). The copy gets the UUID and the marks of its own volume.

The instance of the matrix has a CD-ROM with an image, a network card, a
serial port, a second disk, `guestinfo.userdata` and Nova's keys, an
annotation, hardware version vmx-19, 64 MiB of memory, and a limit of 500 I/O
operations a second on the volume's disk.

The cells say what the copy has: **kept** is the source's value, **type's** is
the value of the volume type, **refused** is an error that leaves the volume
unchanged. The value before the slash is for a type that specifies nothing, the
value after it for a type that specifies all. A cell has two words if the
source already had the value of the type, or is thin, as a delta is.

| way | source | adapter | disk type | policy | of the instance | cases |
|---|---|---|---|---|---|---|
'''


class Form(NamedTuple):
    """What the matrix asks of a disk."""

    adapter: str
    provisioning: str
    policy: str | None


class Case(NamedTuple):
    """One copy."""

    way: str
    attached: bool
    source: Form
    named: bool  # whether the type of the copy names all


class Outcome(NamedTuple):
    """What came of it, in the words of the page."""

    adapter: str
    provisioning: str
    policy: str
    left: str


REFUSED = Outcome('refused', 'refused', 'refused', '-')


class CopyCase(backend_case.BackendCase):
    """Volumes, and an instance that has much to leave behind."""

    VCENTER = backend_case.BackendCase.VCENTER | {
        'policy': ['gold=*', 'silver=*']}
    OPTIONS = {'vmware_snapshot_format': 'template'}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.instance = cls.make_instance()
        cls.own_disks[cls.instance.name] = [
            device.backing.uuid for device
            in cls.instance.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualDisk)]
        cls.pbm = cls.connect_to_policies()
        cls.policies = {
            each.name: each.profileId.uniqueId for each
            in cls.pbm.profileManager.PbmRetrieveContent(
                cls.pbm.profileManager.PbmQueryProfile(
                    pbm.profile.ResourceType(resourceType='STORAGE')))}

    def setUp(self):
        super().setUp()
        self.types: dict[str, Any] = {}

    @classmethod
    def connect_to_policies(cls):
        stub = SoapStubAdapter(
            host=cls.vcenter.host, port=cls.vcenter.port, path='/pbm/sdk',
            version='pbm.version.version14',
            sslContext=ssl.create_default_context(cafile=cls.vcenter.cacert))
        stub.cookie = cls.service._stub.cookie
        stub.requestContext = {'vcSessionCookie': stub.cookie.split(';')[
            0].split('=', 1)[1].strip('"')}
        return pbm.ServiceInstance('ServiceInstance',
                                   stub).RetrieveContent()

    @classmethod
    def make_instance(cls):
        add = [vim.vm.device.ParaVirtualSCSIController(
                   key=1000, busNumber=0, sharedBus='noSharing'),
               vim.vm.device.VirtualLsiLogicController(
                   key=1001, busNumber=1, sharedBus='noSharing'),
               vim.vm.device.VirtualCdrom(
                   key=3000, controllerKey=200, unitNumber=0,
                   backing=vim.vm.device.VirtualCdrom.IsoBackingInfo(
                       fileName='[LocalDS_0] config-drive.iso')),
               vim.vm.device.VirtualE1000(
                   key=4000, backing=vim.vm.device.VirtualEthernetCard
                   .NetworkBackingInfo(deviceName='VM Network')),
               vim.vm.device.VirtualSerialPort(
                   key=9000, yieldOnPoll=True, backing=vim.vm.device
                   .VirtualSerialPort.URIBackingInfo(
                       serviceURI='telnet://console:1', direction='client'))]
        changes = [vim.vm.device.VirtualDeviceSpec(operation='add', device=d)
                   for d in add]
        changes.append(vim.vm.device.VirtualDeviceSpec(
            operation='add', fileOperation='create',
            device=vim.vm.device.VirtualDisk(
                key=-9, controllerKey=1001, unitNumber=0, capacityInKB=1024,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName='[LocalDS_0]', diskMode='persistent',
                    thinProvisioned=True))))
        datacenter = cls.service.content.rootFolder.childEntity[0]
        cls.service.content.fileManager.MakeDirectory(
            '[LocalDS_0] config-drive.iso', datacenter)
        host = cls.all(vim.HostSystem)[0]
        vm = cls.wait(datacenter.vmFolder.CreateVM_Task(vim.vm.ConfigSpec(
            name='DC0_instance', guestId='otherGuest', numCPUs=2, memoryMB=64,
            version='vmx-19', annotation='name:server',
            extraConfig=[vim.option.OptionValue(key=key, value=value)
                         for key, value in (
                             ('guestinfo.userdata', 'c2VjcmV0'),
                             ('guestinfo.metadata', 'e30='),
                             ('RemoteDisplay.vnc.enabled', 'true'),
                             ('anything.else', 'x'))],
            files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'),
            deviceChange=changes), host.parent.resourcePool, host))
        cls.wait(vm.PowerOnVM_Task())
        return vm

    # -- A source, and what is asked of its copy ----------------------------

    def of_form(self, form):
        specs = {'adapter_type': form.adapter, 'vmdk_type': form.provisioning}
        if form.policy:
            specs['storage_profile'] = form.policy
        return self.known_type(specs)

    def target_type(self, named, **more):
        return self.known_type((NAMED if named else {}) | more)

    def known_type(self, specs):
        """The volume type of those extra specs."""
        name = f'type {sorted(specs.items())}'
        if name not in self.types:
            self.types[name] = self.volume_type(name, **specs)
        return self.types[name]

    def attach_with_limits(self, volume, policy):
        self.attach(volume, self.instance)
        disk = self.disk_on(self.instance, volume)
        disk.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(
            limit=500, shares=vim.SharesInfo(level='high', shares=2000))
        self.wait(self.instance.ReconfigVM_Task(vim.vm.ConfigSpec(
            deviceChange=[vim.vm.device.VirtualDeviceSpec(
                operation='edit', device=disk, profile=[
                    vim.vm.DefinedProfileSpec(profileId=self.policies[policy])
                ] if policy else [])])))

    # -- The ways; each gives what is to be looked at ------------------------

    def _new(self, type_id, **fields):
        return self.new_volume('LocalDS_2', type_id=type_id, **fields)

    def full_clone(self, source, named):
        made = self._new(self.target_type(named)['id'])
        return self.made(made, self.driver.create_cloned_volume(made, source))

    def linked_clone(self, source, named):
        made = self.new_volume('LocalDS_1', type_id=self.target_type(
            named, clone_type='linked')['id'])
        return self.made(made, self.driver.create_cloned_volume(made, source))

    def template(self, source, _named):
        return self.snapshot(source)

    def volume_of_template(self, source, named):
        made = self._new(self.target_type(named)['id'])
        return self.made(made, self.driver.create_volume_from_snapshot(
            made, self.snapshot(source)))

    def volume_of_cow(self, source, named):
        made = self._new(self.target_type(named)['id'])
        snapshot = self.made_cow(source)
        return self.made(made, self.driver.create_volume_from_snapshot(
            made, snapshot))

    def linked_volume_of_cow(self, source, named):
        made = self.new_volume('LocalDS_1', type_id=self.target_type(
            named, clone_type='linked')['id'])
        return self.made(made, self.driver.create_volume_from_snapshot(
            made, self.made_cow(source)))

    def made_cow(self, source):
        # The options are the process's.
        section.read(**section.of_vcenter(
            self.vcenter, **self.OPTIONS | {'vmware_snapshot_format': 'COW'}))
        try:
            return self.snapshot(source)
        finally:
            section.read(**section.of_vcenter(self.vcenter, **self.OPTIONS))

    def retyped(self, volume, named):
        """Its type is another one now; the disk is as it was."""
        volume.volume_type_id = self.target_type(named)['id']
        volume.save()
        volume.refresh()

    def revert_to_template(self, source, named):
        snapshot = self.snapshot(source)
        self.retyped(source, named)
        self.driver.revert_to_snapshot(self.context, source, snapshot)
        return source

    def revert_to_cow(self, source, named):
        snapshot = self.made_cow(source)
        self.retyped(source, named)
        self.driver.revert_to_snapshot(self.context, source, snapshot)
        return source

    def retype(self, pool):
        def act(source, named):
            kind = self.target_type(named)
            there = self.there(pool)
            if not self.driver.retype(self.context, source, kind, {}, there):
                raise exception.InvalidVolume(reason='it cannot be done so')
            source.volume_type_id, source.host = kind['id'], there['host']
            source.save()
            return source
        return act

    def migrate(self, source, _named):
        self.driver.migrate_volume(self.context, source,
                                   self.there('LocalDS_2'))
        return source

    def group_of_group(self, source, named):
        group = self.database.group(
            f'kind of {source.id}', f'{backend_case.HOST}#LocalDS_1',
            consistent_group_snapshot_enabled='<is> True')
        made = self._new(self.target_type(named)['id'], group_id=group.id,
                         source_volid=source.id)
        _status, (update,) = self.driver.create_group_from_src(
            self.context, group, [made], source_group=group,
            source_vols=[source])
        update = dict(update)
        del update['id']
        return self.made(made, update)

    def managed(self, source, named):
        """Of a VM that was once cloned from an instance."""
        vm = self.truth(source).vm
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(
            name='to-manage', annotation='x', instanceUuid=source.id[:-4]
            + 'ffff', extraConfig=[
                vim.option.OptionValue(key='guestinfo.userdata', value='x'),
                vim.option.OptionValue(key='cinder.volume.id', value='')],
            managedBy=vim.ext.ManagedByInfo(extensionKey='', type=''))))
        source.destroy()
        path = next(d.backing.fileName for d in vm.config.hardware.device
                    if isinstance(d, vim.vm.device.VirtualDisk))
        inventory = '/'.join(reversed(_folders(vm)))
        made = self._new(self.target_type(named, vmdk_type=self.form
                                          .provisioning)['id'])
        return self.made(made, self.driver.manage_existing(
            made, {'source-name': f'{path}@{inventory}'}))

    def reimage(self, source, named):
        self.retyped(source, named)
        image = test_transfers.ImageService(b'new' * 4096, 'preallocated')
        del image.metadata['properties']['vmware_adaptertype']
        self.driver.copy_image_to_volume(self.context, source, image,
                                         image.metadata['id'])
        return source

    def extended_linked(self, source, named):
        made = self.linked_clone(source, named)
        self.driver.extend_volume(made, 2)
        return made

    def ways(self) -> dict[str, tuple[Any, tuple[bool, ...]]]:
        """What makes the copy, and whether the source is attached."""
        both, detached = (False, True), (False,)
        return {
            'full clone, or of the image cache': (self.full_clone, both),
            'linked clone': (self.linked_clone, both),
            'snapshot (template)': (self.template, both),
            'volume of a snapshot (template)': (self.volume_of_template,
                                                both),
            'volume of a snapshot (COW)': (self.volume_of_cow, detached),
            'linked volume of a snapshot (COW)': (self.linked_volume_of_cow,
                                                  detached),
            'group of a consistent group': (self.group_of_group, both),
            'revert to a template': (self.revert_to_template, detached),
            'revert to a COW snapshot': (self.revert_to_cow, detached),
            'retype on its pool': (self.retype('LocalDS_1'), both),
            'retype to another pool': (self.retype('LocalDS_2'), both),
            'migrate': (self.migrate, both),
            'extend of a linked clone': (self.extended_linked, detached),
            'manage': (self.managed, detached),
            'reimage': (self.reimage, detached),
        }

    # -- Running a case -----------------------------------------------------

    def run_case(self, case: Case) -> Outcome:
        """Make a source, copy it, look at the copy, and delete both."""
        self.form = case.source
        source = self.create('LocalDS_1', type_id=self.of_form(
            case.source)['id'], content=b'content' * 64)
        self.plain_keys = {option.key for option in self.truth(
            source).vm.config.extraConfig}
        if case.attached:
            self.attach_with_limits(source, case.source.policy)
        make, _attached = self.ways()[case.way]
        try:
            return self.look_at(make(source, case.named), case)
        except REFUSALS:
            return REFUSED
        finally:
            self._remove_shadow_vms()

    def look_at(self, copy, case: Case) -> Outcome:
        truth = self.truth(copy)
        if case.way != 'reimage':
            self.assertEqual(b'content', self.read(copy, 7))
        vm = truth.vm
        by_controller = {kind: name for name, kind in ADAPTERS.items()}
        named = NAMED if case.named else {}
        # While it is attached the instance's disk counts.
        policy = (self.policy_of(vm, truth.disk)
                  if copy.status != 'in-use' else self.policy_of(
                      self.instance, self.disk_on(self.instance, copy)))
        return Outcome(
            _word(by_controller[truth.adapter], case.source.adapter,
                  named.get('adapter_type')),
            _word(truth.provisioning, case.source.provisioning,
                  named.get('vmdk_type')),
            'none' if policy is None else _word(
                policy, case.source.policy, named.get('storage_profile')),
            ', '.join(sorted(self.leftovers(copy, truth))) or 'nothing')

    def policy_of(self, vm, disk):
        found = self.pbm.profileManager.PbmQueryAssociatedProfile(
            pbm.ServerObjectRef(objectType='virtualDiskId',
                                key=f'{vm._moId}:{disk.key}'))
        known = {uid: name for name, uid in self.policies.items()}
        return next((known[each.uniqueId] for each in found), None)

    def leftovers(self, copy, truth):
        """What is there that a fresh shadow VM would not have."""
        config, disk = truth.vm.config, truth.disk
        for device in config.hardware.device:
            kind = type(device).__name__.rpartition('.')[2]
            if kind not in PLAIN and device.key != disk.controllerKey:
                yield kind
        for option in config.extraConfig:
            if (not option.key.startswith(OURS) and option.value
                    and option.key not in self.plain_keys):
                yield option.key
        allocation = disk.storageIOAllocation
        for name, wrong in (
                ('annotation', config.annotation),
                ('hardware version', config.version != 'vmx-08'),
                ('memory', config.hardware.memoryMB != 128),
                ('limit', allocation and allocation.limit == 500),
                ('mode', disk.backing.diskMode != 'persistent'),
                ('UUID', not truth.vm.config.template
                 and not disk.backing.parent
                 and disk.backing.uuid != copy.id)):
            if wrong:
                yield name


def _folders(vm):
    names = []
    while vm.parent is not None:
        names.append(vm.name)
        vm = vm.parent
    return names


def _word(found, source, named):
    if named is not None and found == named:
        return "type's"
    return 'kept' if found == source else found


def every_case(ways) -> list[Case]:
    """The whole matrix."""
    sources = [Form(adapter, form, ('gold', None)[number % 2])
               for number, (adapter, form)
               in enumerate(itertools.product(
                   [each for each in ADAPTERS if each != 'busLogic'],
                   [each for each in FORMS if each != 'thick']))]
    sources += [Form('busLogic', 'thick', 'gold'),
                Form('lsiLogic', 'thick', None)]
    return [Case(way, attached, source, named)
            for way, (_make, attachments) in ways.items()
            for attached in attachments
            for source in sources
            for named in (False, True)]


def page(outcomes: dict[Case, Outcome]) -> str:
    """docs/copies.md."""
    rows = []
    for way, attached in dict.fromkeys((case.way, case.attached)
                                       for case in outcomes):
        mine = {case: outcome for case, outcome in outcomes.items()
                if (case.way, case.attached) == (way, attached)}
        cells = [' / '.join(
            ' or '.join(sorted({outcome[column] for case, outcome
                                in mine.items() if case.named == named}))
            for named in (False, True)) for column in range(3)]
        left = ', '.join(sorted({each.left for each in mine.values()}
                                - {'-'})) or '-'
        rows.append(f'| {way} | {"attached" if attached else "detached"} | '
                    f'{" | ".join(cells)} | {left} | {len(mine)} |\n')
    return HEAD + ''.join(rows)


class _Writer(CopyCase):

    def runTest(self):
        outcomes = {}
        for case in every_case(self.ways()):
            outcomes[case] = self.run_case(case)
            if len(outcomes) % 50 == 0:
                print(len(outcomes), 'cases', file=sys.stderr)
        PAGE.write_text(page(outcomes))


def main() -> int:
    """Run all of it, and write the page."""
    result = unittest.TextTestRunner().run(unittest.defaultTestLoader
                                           .suiteClass([_Writer()]))
    return int(not result.wasSuccessful())


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return unittest.TestSuite()


if __name__ == '__main__':
    sys.exit(main())
