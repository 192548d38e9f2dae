# SPDX-License-Identifier: Apache-2.0
"""Tests that each cell of docs/operations.md is true.

Each cell is an operation on a detached or an attached volume, on its own pool
or on another, which runs here. To write the page, run ``python -m
cinder_vmdk_ext.tests.functional.test_operations_table --write``.
"""

import os
import pathlib
import re
import sys
import unittest
from typing import Any

from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder import exception
from cinder import objects

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'operations.md'
HEAD = '''\
# What each operation does

`make test` runs every cell of this table with the simulated vCenter, and
fails if a cell is no longer true. "Another cluster" is a datastore that only
the hosts of the other cluster mount. "Instance's host" is the ESX host of the
instance that a volume is attached to.

Each cell gives the result: **stays** or **moves** (to the requested pool,
which the volume's host then names), and the vCenter's tasks. After each
success the content was compared, and was the same. A refused operation leaves
the volume unchanged; the cell gives the reason.

What Cinder does before it calls the driver:

- `migrate` of an attached volume never reaches the driver's own migration
  (`migrate_volume` of Cinder's volume manager; the table's cells come from
  its code). Cinder creates an empty volume on the destination, and would then
  ask Nova to swap the two, which Nova's VMware driver does not implement. So
  the destination refuses to create that volume, and nothing changes. To move
  an attached volume, retype it: for a retype Cinder calls the driver.
- The API refuses `migrate` for a volume that has snapshots or is in a group,
  and, without a cluster, to the pool that it is on.
- A retype between types with equal contents does not call the driver. In
  "retype, nothing to change" the types differ, but the disk's form does not.
- After a refused retype Cinder migrates the volume itself if the caller's
  migration policy is `on-demand`, and otherwise fails the request.

| operation | volume | same pool | another pool | another cluster |
|---|---|---|---|---|
'''
PLACES = ('LocalDS_0', 'LocalDS_1', 'LocalDS_3')
REFUSALS = (exceptions.NoPlacement, vmware_exceptions.VimException,
            exception.InvalidVolume, exception.InvalidSnapshot)
TASKS = ('CloneVM_Task', 'RelocateVM_Task', 'ExtendVirtualDisk_Task',
         'RevertToSnapshot_Task', 'CreateSnapshot_Task')


class GenericMigration(Exception):
    """Cinder does not call the driver, but copies or asks Nova."""


def manager_of(driver):
    """Cinder's volume manager, up to its choice of a way to migrate."""
    from cinder.volume import manager  # after the objects are registered

    class Manager(manager.VolumeManager):

        def __init__(self):
            # Not super(): it loads a driver and connects to a message bus.
            self.driver = driver

        def _get_service(self, host=None, binary=None):
            return objects.Service(availability_zone='nova',
                                   uuid=uuidutils.generate_uuid())

        def _migrate_volume_generic(self, ctxt, volume, backend, new_type_id):
            raise GenericMigration

    return Manager()


class TableTestCase(backend_case.BackendCase):
    """The page, made by running it."""

    VCENTER = {'ds': 4, 'dc': 1, 'cluster': 2, 'host': 1, 'vm': 1,
               'standalone_host': 0, 'ds_capacity': '100GiB'}
    # Without the reconciler's thread, whose calls would be counted.
    OPTIONS = {'vmware_snapshot_format': 'template',
               'vmdk_ext_reconcile_interval': 0}

    maxDiff = None

    def operations(self) -> dict[str, Any]:
        return {
            'clone (full)': self.clone('full'),
            'clone (linked)': self.clone('linked'),
            'snapshot, then a volume of it': self.volume_of_snapshot,
            'extend': self.extend,
            'retype, nothing to change': self.retype('thin', 'lsiLogic'),
            'retype, disk type': self.retype('eagerZeroedThick', 'lsiLogic'),
            'retype, adapter': self.retype('thin', 'paraVirtual'),
            'migrate': self.migrate,
            'revert to a snapshot': self.revert,
        }

    # Each acts on a volume and a pool; it gives the volume to look at, or
    # None where the pool has no meaning.

    def clone(self, kind):
        def act(volume, pool):
            made = self.new_volume(pool, type_id=self.types['thin', kind])
            self.made(made, self.driver.create_cloned_volume(made, volume))
            return made
        return act

    def volume_of_snapshot(self, volume, pool):
        snapshot = self.snapshot(volume)
        made = self.new_volume(pool)
        self.made(made, self.driver.create_volume_from_snapshot(
            made, snapshot))
        return made

    def extend(self, volume, pool):
        if pool != 'LocalDS_0':
            return None
        self.driver.extend_volume(volume, 2)
        return volume

    def retype(self, provisioning, adapter):
        def act(volume, pool):
            new = self.forms[provisioning, adapter]
            if not self.driver.retype(self.context, volume, new, {},
                                      self.there(pool)):
                return False
            volume.host = self.there(pool)['host']
            volume.save()
            return volume
        return act

    def migrate(self, volume, pool):
        manager_of(self.driver).migrate_volume(self.context, volume,
                                               self.there(pool))
        return volume

    def revert(self, volume, pool):
        if pool != 'LocalDS_0':
            return None
        snapshot = self.snapshot(volume)
        self.now = backend_case.content('later')
        self.write(volume, self.now)
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        return volume

    def cell(self, operation, attached, pool):
        content = backend_case.content('kept')
        self.now = content  # what the volume holds
        volume = self.create('LocalDS_0', content=content)
        volume.volume_type_id = self.types['thin', 'full']
        volume.save()
        if attached:
            self.attach(volume, self.instance)
        self.control.reset_journal()
        try:
            seen = operation(volume, pool)
        except REFUSALS as error:
            self.assert_untouched(volume)
            return f'refused: {_brief(error)}'
        except GenericMigration:
            self.assert_untouched(volume)
            return 'refused by the destination: only Nova could swap it'
        if seen is None:
            return '—'
        if seen is False:
            self.assert_untouched(volume)
            return 'refused; Cinder may migrate the volume'
        calls = self.control.journal()['methods']
        took = ', '.join(
            name.removesuffix('_Task') + (f' ×{calls[name]["calls"]}'
                                          if calls[name]['calls'] > 1 else '')
            for name in TASKS if name in calls)
        truth = self.truth(seen)
        self.assertEqual(pool, truth.datastore)
        self.assertEqual(content, self.read(seen, len(content)))
        verb = 'stays' if pool == 'LocalDS_0' else 'moves'
        if seen is not volume:
            verb = 'on the pool'
            self.assert_untouched(volume)
        linked = ', a delta' if truth.disk.backing.parent else ''
        return f'{verb}{linked}' + (f' ({took})' if took else '')

    def assert_untouched(self, volume):
        self.assertEqual('LocalDS_0', self.truth(volume).datastore)
        self.assertEqual(self.now, self.read(volume, len(self.now)))

    def table(self) -> str:
        self.driver.set_initialized()  # Cinder's manager asks for it
        self.types = {
            ('thin', kind): self.volume_type(kind, clone_type=kind)['id']
            for kind in ('full', 'linked')}
        self.forms = {(kind, adapter): self.volume_type(
            f'{kind}-{adapter}', vmdk_type=kind, adapter_type=adapter)
            for kind in ('thin', 'eagerZeroedThick')
            for adapter in ('lsiLogic', 'paraVirtual')}
        there = {mount.key._moId for mount in
                 self.datastore('LocalDS_3').host}
        self.instance = next(vm for vm in self.instances()
                             if vm.runtime.host._moId not in there)
        lines = []
        for name, operation in self.operations().items():
            for attached in (False, True):
                cells = []
                for pool in PLACES:
                    cells.append(self.cell(operation, attached, pool))
                    self._remove_shadow_vms()
                state = 'attached' if attached else 'detached'
                lines.append(f'| {name} | {state} | {" | ".join(cells)} |\n')
        return HEAD + ''.join(lines)

    def test_the_page_is_what_happens(self):
        self.assertEqual(1, len({
            host._moId for host in self.all(vim.HostSystem)
            if host._moId in {mount.key._moId for mount in
                              self.datastore('LocalDS_3').host}}))
        made = self.table()
        if os.environ.get('WRITE_OPERATIONS_TABLE'):
            PAGE.write_text(made)
        self.assertEqual(PAGE.read_text(), made)


def _brief(error: Exception) -> str:
    text = str(error).partition('\n')[0]
    return re.sub(r'volume [0-9a-f-]{36}', 'the volume', text)


if __name__ == '__main__':
    if '--write' in sys.argv:
        sys.argv.remove('--write')
        os.environ['WRITE_OPERATIONS_TABLE'] = '1'
    unittest.main()
