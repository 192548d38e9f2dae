# SPDX-License-Identifier: Apache-2.0
"""The table of the privileges that the plugin's vCenter user needs.

The preflight checks them when the driver starts, docs/privileges.md lists
them, and the tests run as a user that has exactly these. One test removes
each privilege in turn and expects an operation to fail without it.
"""

from typing import NamedTuple


class Privilege(NamedTuple):
    """A privilege on a kind of object, and its purpose."""

    id: str
    #: ROOT, FOLDER, MACHINE, DATASTORE or POOL.
    on: str
    #: Completes "is needed to".
    purpose: str
    #: Without it the driver does not start.
    vital: bool = False
    #: The version of the API that introduced it, or empty.
    since: str = ''
    #: For what an operator does by a command; not checked at the start.
    optional: bool = False


ROOT = 'vCenter (root folder)'
FOLDER = 'VM folder'
MACHINE = 'virtual machine'
DATASTORE = 'datastore'
POOL = 'resource pool'

#: Every role has these; a role must cover all objects that a backend uses.
SYSTEM = ('System.Anonymous', 'System.View', 'System.Read')

TABLE = (
    Privilege('Extension.Register', ROOT,
              'register the extension that marks the VMs of volumes',
              vital=True),
    Privilege('StorageProfile.View', ROOT, 'read storage policies'),
    Privilege('StorageProfile.Apply', ROOT,
              'give disks a storage policy', since='8.0.2'),
    Privilege('Global.ManageCustomFields', ROOT,
              'make the attribute by which `pool drain` drains, once',
              optional=True),
    Privilege('Folder.Create', FOLDER, 'make the folders of volumes'),
    Privilege('VirtualMachine.Inventory.Create', FOLDER, 'create volumes'),
    Privilege('VirtualMachine.Inventory.CreateFromExisting', FOLDER,
              'clone volumes'),
    Privilege('VirtualMachine.Inventory.Move', FOLDER,
              'move VMs of volumes between folders'),
    Privilege('VirtualMachine.Inventory.Delete', FOLDER, 'delete volumes'),
    Privilege('VirtualMachine.Inventory.Register', FOLDER,
              'register VMs and templates again (`volume relink`, `snapshot '
              'relink`)', optional=True),
    Privilege('VirtualMachine.Config.AddNewDisk', FOLDER, 'create volumes'),
    Privilege('VirtualMachine.Config.AdvancedConfig', FOLDER,
              'note whose a new VM is'),
    Privilege('VApp.Import', FOLDER,
              'create volumes of images, and restore backups'),
    Privilege('VirtualMachine.Inventory.Move', MACHINE,
              'move VMs of volumes between folders'),
    Privilege('VirtualMachine.Inventory.Delete', MACHINE, 'delete volumes'),
    Privilege('VirtualMachine.Inventory.Unregister', MACHINE,
              'undo a registration that was refused (`volume relink`)',
              optional=True),
    Privilege('VirtualMachine.Config.AddExistingDisk', MACHINE,
              'adopt disks, and follow those that were moved'),
    Privilege('VirtualMachine.Config.RemoveDisk', MACHINE,
              'adopt disks, and follow those that were moved'),
    Privilege('VirtualMachine.Config.AddRemoveDevice', MACHINE,
              "change a disk's adapter"),
    Privilege('VirtualMachine.Config.EditDevice', MACHINE,
              'set the UUID and the storage policy of a disk'),
    Privilege('VirtualMachine.Config.DiskExtend', MACHINE,
              'extend attached volumes'),
    Privilege('VirtualMachine.Config.Resource', MACHINE,
              'set the I/O limits of QoS specs'),
    Privilege('VirtualMachine.Config.Rename', MACHINE,
              'rename VMs of volumes'),
    Privilege('VirtualMachine.Config.Settings', MACHINE,
              'find VMs by their UUID'),
    Privilege('VirtualMachine.Config.AdvancedConfig', MACHINE,
              'note what a VM is for'),
    Privilege('VirtualMachine.Config.ManagedBy', MACHINE,
              'mark clones as managed by the extension'),
    Privilege('VirtualMachine.Provisioning.Clone', MACHINE, 'clone volumes'),
    Privilege('VirtualMachine.Provisioning.CreateTemplateFromVM', MACHINE,
              'keep snapshots as templates'),
    Privilege('VirtualMachine.Provisioning.MarkAsTemplate', MACHINE,
              'keep snapshots of attached volumes as templates'),
    Privilege('VirtualMachine.Provisioning.MarkAsVM', MACHINE,
              'relink volumes whose VM was marked as a template'),
    Privilege('VirtualMachine.Provisioning.DeployTemplate', MACHINE,
              'create volumes of templates'),
    Privilege('VirtualMachine.State.CreateSnapshot', MACHINE,
              'snapshot volumes'),
    Privilege('VirtualMachine.State.RemoveSnapshot', MACHINE,
              'delete snapshots'),
    Privilege('VirtualMachine.State.RenameSnapshot', MACHINE,
              'manage snapshots'),
    Privilege('VirtualMachine.State.RevertToSnapshot', MACHINE,
              'revert volumes'),
    Privilege('VApp.Export', MACHINE,
              'upload volumes as images, and back volumes up'),
    Privilege('Resource.ColdMigrate', MACHINE, 'migrate and retype volumes'),
    Privilege('Resource.HotMigrate', MACHINE, 'migrate attached volumes'),
    Privilege('Datastore.AllocateSpace', DATASTORE, 'create volumes'),
    Privilege('Datastore.Browse', DATASTORE, 'find disks'),
    Privilege('Datastore.FileManagement', DATASTORE,
              'extend, move and import disks'),
    Privilege('Global.SetCustomField', DATASTORE,
              'drain and undrain pools (`pool drain`)', optional=True),
    Privilege('Resource.AssignVMToPool', POOL, 'create volumes'),
    Privilege('VApp.Import', POOL,
              'create volumes of images, and restore backups'),
)
