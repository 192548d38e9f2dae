# SPDX-License-Identifier: Apache-2.0
"""Finds the privileges that each operation needs, by running it.

``make privileges`` writes the table of docs/privileges.md.
"""

import collections
import pathlib
import re
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from oslo_utils import units
from oslo_utils import uuidutils

from cinder.volume import qos_specs

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.tests.functional import audit_case
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import manage_case
from cinder_vmdk_ext.tests.functional import test_groups
from cinder_vmdk_ext.tests.functional import test_transfers
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import custom_fields
from cinder_vmdk_ext.vsphere import privileges
from cinder_vmdk_ext.vsphere import references
from sandbox import service_user
from sandbox.embedded import section

PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'privileges.md'
# The kind of object that the simulator's entity types are, in the table.
KINDS = {'VirtualMachine': privileges.MACHINE,
         'Datastore': privileges.DATASTORE,
         'ResourcePool': privileges.POOL}


class Use(NamedTuple):
    """A privilege that a method took on a kind of object."""

    privilege: str
    on: str
    method: str


class OperationsCase(manage_case.ManageCase, test_groups.GroupCase,
                     audit_case.AuditCase):
    """Operations whose preparation has all privileges.

    An operation is a generator: it prepares, yields, and does what is
    measured.
    """

    # A vCenter may give a new disk another UUID than the driver asks for.
    VCENTER = backend_case.BackendCase.VCENTER | {
        'policy': ['gold=*'], 'new_disk_uuid': 'ignored'}
    # What is remembered depends on no clock.
    OPTIONS = {'vmware_snapshot_format': 'COW',
               'vmdk_ext_policy_cache_seconds': 86400}

    def operations(self):
        """All operations, by the name that the page has for them."""
        return {name[3:].replace('_', ' '): getattr(self, name)
                for name in dir(self) if name.startswith('do_')}

    # -- Restricting and recording -------------------------------------------

    def allow(self, *, without: Iterable[str] = ()):
        service_user.grant(
            self.vcenter, service_user.of(self.vcenter),
            [each for each in privileges.TABLE if each.id not in without])

    def carry_out(self, operation, without: Iterable[str] = ()):
        """Run one operation, as a user without some privileges.

        :returns: the checks that were made, as the simulator lists them
        :raises: what the operation raised
        """
        steps = operation()
        next(steps)
        self.allow(without=without)
        # Each operation asks by itself for what it needs.
        self.driver.backend.directory.forget()
        self.control.forget_used_privileges()
        try:
            next(steps, None)
        finally:
            checks = self.control.used_privileges(service_user.NAME)
            self.allow()
            self._remove_shadow_vms()
            if self.driver is not self.shared_driver:
                self.driver = self.shared_driver
                section.read(**section.of_vcenter(self.vcenter,
                                                  **self.OPTIONS))
        return checks

    def uses(self, checks) -> set[Use]:
        """What was needed beside the sight of the objects."""
        return {Use(each['privilege'], self.kind(each), each['method'])
                for each in checks
                if not each['privilege'].startswith('System.')}

    @staticmethod
    def kind(check) -> str:
        on_root = {each.id for each in privileges.TABLE
                   if each.on == privileges.ROOT}
        if check['object'] == 'Folder':
            return (privileges.ROOT if check['privilege'] in on_root
                    else privileges.FOLDER)
        return KINDS[check['object']]

    # -- Operations -----------------------------------------------------------

    def do_start_the_service(self) -> Iterator[None]:
        self.service.content.extensionManager.UnregisterExtension(
            'org.openstack.storage')
        yield
        self.make_driver()

    def do_report_the_pools(self) -> Iterator[None]:
        yield
        self.report()

    def do_create_a_volume(self) -> Iterator[None]:
        yield
        self.create()

    def golden(self):
        """A volume type with a storage policy."""
        return self.volume_type(uuidutils.generate_uuid(),
                                storage_profile='gold')

    def do_create_a_volume_with_a_storage_policy(self) -> Iterator[None]:
        type_id = self.golden()['id']
        yield
        self.create(type_id=type_id)

    def do_create_a_volume_with_QoS_specs(self) -> Iterator[None]:
        type_id = self.volume_type(uuidutils.generate_uuid())['id']
        specs = qos_specs.create(self.context, type_id, {
            'consumer': 'back-end', 'total_iops_sec': '500'})
        qos_specs.associate_qos_with_type(self.context, specs['id'], type_id)
        yield
        self.create(type_id=type_id)

    def do_delete_a_volume(self) -> Iterator[None]:
        volume = self.create()
        yield
        self.driver.delete_volume(volume)

    def do_clone_a_volume(self) -> Iterator[None]:
        source = self.create()
        made = self.new_volume('LocalDS_2')
        yield
        self.driver.create_cloned_volume(made, source)

    def do_extend_a_volume(self) -> Iterator[None]:
        volume = self.create()
        yield
        self.driver.extend_volume(volume, 2)

    def do_extend_an_attached_volume(self) -> Iterator[None]:
        volume = self.create()
        self.attach(volume)
        yield
        self.driver.extend_volume(volume, 2)

    def do_migrate_a_volume(self) -> Iterator[None]:
        volume = self.create()
        yield
        self.driver.migrate_volume(self.context, volume,
                                   self.there('LocalDS_3'))

    def do_migrate_an_attached_volume(self) -> Iterator[None]:
        volume = self.create()
        self.attach(volume)
        yield
        self.driver.migrate_volume(self.context, volume,
                                   self.there('LocalDS_3'))

    def do_retype_a_volume(self) -> Iterator[None]:
        volume = self.create()
        other = self.volume_type(
            f'eager {volume.id}', vmdk_type='eagerZeroedThick',
            adapter_type='paraVirtual')
        yield
        self.driver.retype(self.context, volume, other, {},
                           self.there('LocalDS_1'))

    def do_retype_to_another_storage_policy(self) -> Iterator[None]:
        volume = self.create()
        other = self.golden()
        yield
        self.driver.retype(self.context, volume, other, {},
                           self.there('LocalDS_1'))

    def do_end_a_migration_by_Cinder(self) -> Iterator[None]:
        volume, copy = self.create(), self.create('LocalDS_2')
        yield
        self.driver.update_migrated_volume(self.context, volume, copy,
                                           'available')

    def do_follow_an_attached_disk_that_was_moved(self) -> Iterator[None]:
        volume = self.create()
        instance = self.attach(volume)
        self.report()
        disk = self.disk_on(instance, volume)
        yield
        self.control.call('POST', '/sdrs/move', {
            'vm': instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        self.report()

    def do_take_a_COW_snapshot(self) -> Iterator[None]:
        volume = self.create()
        yield
        self.snapshot(volume)

    def do_delete_a_COW_snapshot(self) -> Iterator[None]:
        snapshot = self.snapshot(self.create())
        yield
        self.driver.delete_snapshot(snapshot)

    def do_revert_to_a_COW_snapshot(self) -> Iterator[None]:
        volume = self.create()
        snapshot = self.snapshot(volume)
        yield
        self.driver.revert_to_snapshot(self.context, volume, snapshot)

    def do_create_a_volume_of_a_COW_snapshot(self) -> Iterator[None]:
        snapshot = self.snapshot(self.create())
        made = self.new_volume('LocalDS_2')
        yield
        self.driver.create_volume_from_snapshot(made, snapshot)

    def of_template(self):
        """A volume of a driver that keeps snapshots as templates."""
        self.driver = self.make_driver(vmware_snapshot_format='template')
        return self.create()

    def do_take_a_template_snapshot(self) -> Iterator[None]:
        volume = self.of_template()
        yield
        self.snapshot(volume)

    def do_delete_a_template_snapshot(self) -> Iterator[None]:
        snapshot = self.snapshot(self.of_template())
        yield
        self.driver.delete_snapshot(snapshot)

    def do_snapshot_an_attached_volume(self) -> Iterator[None]:
        volume = self.of_template()
        self.attach(volume)
        yield
        self.driver.create_snapshot(self.new_snapshot(volume))

    def do_revert_to_a_template_snapshot(self) -> Iterator[None]:
        volume = self.of_template()
        snapshot = self.snapshot(volume)
        yield
        self.driver.revert_to_snapshot(self.context, volume, snapshot)

    def do_create_a_volume_of_a_template_snapshot(self) -> Iterator[None]:
        snapshot = self.snapshot(self.of_template())
        made = self.new_volume('LocalDS_2')
        yield
        self.driver.create_volume_from_snapshot(made, snapshot)

    def do_accept_a_transfer_with_template_snapshots(self) -> Iterator[None]:
        volume = self.of_template()
        self.snapshot(volume)
        yield
        self.driver.accept_transfer(self.context, volume, 'user', 'another')

    def do_snapshot_a_consistent_group(self) -> Iterator[None]:
        group = self.group(**test_groups.CONSISTENT)
        volumes = self.members(group, 2)
        for volume in volumes:
            self.attach(volume)
        yield
        status, _made, _each = self.take(group, volumes)
        self.assertEqual('available', status)

    def do_upload_a_volume_as_an_image(self) -> Iterator[None]:
        volume = self.create()
        image = test_transfers.ImageService()
        yield
        self.driver.copy_volume_to_image(self.context, volume, image,
                                         image.metadata)

    def of_image(self, image) -> Iterator[None]:
        volume = self.new_volume()
        yield
        self.driver.copy_image_to_volume(self.context, volume, image,
                                         image.metadata['id'])

    def do_create_a_volume_of_a_stream_optimized_image(self
                                                       ) -> Iterator[None]:
        image = test_transfers.ImageService()
        volume = self.create(content=b'content')
        self.driver.copy_volume_to_image(self.context, volume, image,
                                         image.metadata)
        self.driver.delete_volume(volume)
        return self.of_image(test_transfers.ImageService(image.data))

    def do_create_a_volume_of_a_preallocated_image(self) -> Iterator[None]:
        return self.of_image(test_transfers.ImageService(
            bytes(units.Mi), 'preallocated'))

    def do_list_manageable_volumes(self) -> Iterator[None]:
        self.make_vm('listed')
        yield
        self.listed()

    def do_manage_a_disk_of_a_VM(self) -> Iterator[None]:
        reference = self.reference(self.make_vm('server'))
        yield
        self.manage(reference)

    def do_manage_a_disk_that_is_a_file(self) -> Iterator[None]:
        path = self.leave_file('left')
        yield
        self.manage({'source-name': path})

    def do_unmanage_a_volume(self) -> Iterator[None]:
        volume = self.create()
        yield
        self.driver.unmanage(volume)

    def do_manage_a_snapshot(self) -> Iterator[None]:
        volume = self.create()
        self.wait(self.truth(volume).vm.CreateSnapshot_Task(
            'before', None, False, False))
        snapshot = self.new_snapshot(volume)
        yield
        self.driver.manage_existing_snapshot(snapshot,
                                             {'source-name': 'before'})

    def do_drain_a_pool(self) -> Iterator[None]:
        manager = self.service.content.customFieldsManager
        yield
        fields = custom_fields.CustomFields(self.driver.backend.session,
                                            self.driver.backend.client)
        try:
            fields.set(
                references.Ref('Datastore', self.datastore(
                    'LocalDS_3')._moId),
                fields.define('cinder_state', 'Datastore'), '')
        finally:
            for field in manager.field:
                manager.RemoveCustomFieldDef(field.key)

    def do_audit(self) -> Iterator[None]:
        self.create()
        yield
        self.audit()

    def do_sweep(self) -> Iterator[None]:
        volume = self.create()
        self.copy_of(volume, replace.temporary_name(volume, 'extend'))
        yield
        self.assertEqual(1, len(self.sweep()))

    def do_register_the_vm_of_a_volume_again(self) -> Iterator[None]:
        volume = self.create()
        vm = self.truth(volume).vm
        path = vm.config.files.vmPathName
        vm.UnregisterVM()
        self.addCleanup(self.delete_file, path)
        yield
        relink = self.driver.backend.relink
        relink.unregister(relink.register(volume, path))

    def do_relink_a_volume_whose_vm_is_a_template(self) -> Iterator[None]:
        volume = self.create()
        self.truth(volume).vm.MarkAsTemplate()
        self.catch_up()
        yield
        relink = self.driver.backend.relink
        relink.carry_out(volume, relink.plan(
            volume, collect.EvidenceReader(
                self.driver.backend).without_files(), vm=volume.name))


def needs(case: OperationsCase) -> dict[str, set[Use]]:
    """What each operation needs, by its name."""
    return {name: case.uses(case.carry_out(operation))
            for name, operation in case.operations().items()}


def page(found: dict[str, set[Use]]) -> str:
    """docs/privileges.md for what was found."""
    methods: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    operations: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for name, used in found.items():
        for use in used:
            methods[use.privilege, use.on].add(use.method)
            operations[use.privilege, use.on].add(name)
    rows = ''.join(
        f'| `{each.id}`{_notes(each)} | {each.on} | {each.purpose} '
        f'| {", ".join(sorted(methods[each.id, each.on]))} '
        f'| {_some(operations[each.id, each.on])} |\n'
        for each in privileges.TABLE)
    return re.sub(r'(?s)(<!-- made -->\n).*(<!-- end -->)',
                  lambda match: match[1] + HEAD + rows + match[2],
                  PAGE.read_text())


HEAD = ('| privilege | on | to | method | operations |\n'
        '|---|---|---|---|---|\n')


def _notes(privilege: privileges.Privilege) -> str:
    return (f' (as of vSphere {privilege.since})' if privilege.since
            else ' (optional)' if privilege.optional else '')


def _some(names: set[str]) -> str:
    shown = sorted(names)[:6]
    left = len(names) - len(shown)
    return '; '.join(shown) + (f'; {left} more' if left else '')
