# SPDX-License-Identifier: Apache-2.0
"""The vCenter's properties become plain values, also if some are absent."""

import unittest

from oslo_vmware import exceptions

from cinder_vmdk_ext.inventory import reader
from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import references


def mount(host, accessMode='readWrite', mounted='true', accessible='true'):
    """One DatastoreHostMount; None leaves a field out."""
    fields = ''.join(
        f'<{name}>{value}</{name}>' for name, value in (
            ('path', '/vmfs/volumes/x'), ('accessMode', accessMode),
            ('mounted', mounted), ('accessible', accessible))
        if value is not None)
    return (f'<DatastoreHostMount><key type="HostSystem">{host}</key>'
            f'<mountInfo>{fields}</mountInfo></DatastoreHostMount>')


def targets(kind, *values):
    return ('ArrayOfManagedObjectReference', ''.join(
        f'<ManagedObjectReference type="{kind}">{value}'
        '</ManagedObjectReference>' for value in values))


def datastore(moref='datastore-1', mounts=mount('host-1'), **changes):
    fields = {
        'name': ('xsd:string', 'gold%2f1'),
        'summary__capacity': ('xsd:long', '1000'),
        'summary__freeSpace': ('xsd:long', '600'),
        'summary__uncommitted': ('xsd:long', '50'),
        'summary__accessible': ('xsd:boolean', 'true'),
        'summary__maintenanceMode': ('xsd:string', 'normal'),
        'summary__type': ('xsd:string', 'VMFS'),
        'summary__url': ('xsd:string', 'ds:///vmfs/volumes/x/'),
        'host': ('ArrayOfDatastoreHostMount', mounts)} | changes
    return vcenters.managed('Datastore', moref, **{
        name: value for name, value in fields.items() if value is not None})


HOST = vcenters.managed(
    'HostSystem', 'host-1', name=('xsd:string', 'esx-1'),
    parent=('ManagedObjectReference', ''),
    runtime__connectionState=('HostSystemConnectionState', 'connected'),
    runtime__inMaintenanceMode=('xsd:boolean', 'false')).replace(
        '<val xsi:type="ManagedObjectReference">',
        '<val xsi:type="ManagedObjectReference" type='
        '"ClusterComputeResource">domain-c1')
DATACENTER = vcenters.managed(
    'Datacenter', 'datacenter-1', name=('xsd:string', 'DC1'),
    vmFolder=('ManagedObjectReference', ''),
    datastore=targets('Datastore', 'datastore-1'))
CLUSTER = vcenters.managed(
    'ClusterComputeResource', 'domain-c1', name=('xsd:string', 'c1'),
    resourcePool=('ManagedObjectReference', ''),
    host=targets('HostSystem', 'host-1')).replace(
        '<val xsi:type="ManagedObjectReference">',
        '<val xsi:type="ManagedObjectReference" type="ResourcePool">'
        'resgroup-1')


DENIED = (
    '<missingSet><path>host</path><fault><fault xsi:type="NoPermission">'
    '<object type="Folder">group-d1</object>'
    '<privilegeId>System.Read</privilegeId></fault>'
    '<localizedMessage/></fault></missingSet>')


class ReadTestCase(unittest.TestCase):

    def read(self, *objects, **more):
        client = vcenters.Client(
            RetrievePropertiesEx=vcenters.page(*objects))
        return reader.InventoryReader(vcenters.Session(), client,
                                      **more).read()

    def read_datastore(self, *args, **changes):
        return self.read(datastore(*args, **changes),
                         DATACENTER).datastores['datastore-1']

    def test_a_datastore(self):
        found = self.read_datastore()
        self.assertEqual(
            ('gold%2f1', 'gold/1', 'ds:///vmfs/volumes/x/', 'vmfs', 1000,
             600, 50, True, 'normal', 'datacenter-1', {'host-1'}),
            (found.name, found.plain_name, found.url, found.type,
             found.capacity_bytes, found.free_bytes, found.uncommitted_bytes,
             found.accessible, found.maintenance_mode, found.datacenter,
             found.usable_hosts))

    def test_what_is_denied_is_kept_with_object_and_privilege(self):
        for kind, seen in (('Datastore', datastore(host=None)),
                           ('HostSystem', HOST),
                           ('ClusterComputeResource', CLUSTER)):
            found = self.read(seen.replace(
                '</objects>', DENIED + '</objects>'))
            [thing] = {**found.datastores, **found.hosts,
                       **found.clusters}.values()
            [(path, why)] = thing.unreadable
            self.assertEqual('host', path, kind)
            self.assertIn('System.Read is missing on Folder group-d1', why)

    def test_a_host_and_its_cluster(self):
        found = self.read(HOST, CLUSTER)
        host, cluster = found.hosts['host-1'], found.clusters['domain-c1']
        self.assertEqual(('esx-1', 'domain-c1', True),
                         (host.name, host.parent, host.live))
        self.assertEqual(('c1', 'resgroup-1', {'host-1'}, False), (
            cluster.name, cluster.resource_pool, cluster.hosts,
            cluster.standalone))

    def test_the_datacenter_is_found_in_whatever_order_things_come(self):
        for objects in ((datastore(), DATACENTER), (DATACENTER, datastore())):
            self.assertEqual('datacenter-1', self.read(
                *objects).datastores['datastore-1'].datacenter)

    def test_a_mount_is_usable_if_it_may_be_written_to(self):
        found = self.read_datastore(
            mounts=mount('host-1') + mount('host-2', accessMode='readOnly')
            + mount('host-3', mounted='false')
            + mount('host-4', accessible='false')
            + mount('host-5', accessible=None)  # unset is false
            + mount('host-6', mounted=None)  # unset is true
            + mount('host-7', accessMode=None))
        self.assertEqual({f'host-{number}' for number in range(1, 8)},
                         found.mounted_hosts)
        self.assertEqual({'host-1', 'host-6'}, found.usable_hosts)

    def test_a_datastore_without_mounts(self):
        for mounts in ('', None):
            changes = {'host': None} if mounts is None else {'mounts': ''}
            found = self.read_datastore(**changes)
            self.assertEqual((frozenset(), frozenset()),
                             (found.mounted_hosts, found.usable_hosts))

    def test_each_property_may_be_absent(self):
        """As for an object that has just appeared, or is about to go."""
        for name in ('name', 'summary__capacity', 'summary__freeSpace',
                     'summary__uncommitted', 'summary__accessible',
                     'summary__maintenanceMode', 'summary__type',
                     'summary__url', 'host'):
            with self.subTest(name):
                found = self.read(datastore(**{name: None}),
                                  datastore('datastore-2'))
                self.assertEqual({'datastore-1', 'datastore-2'},
                                 set(found.datastores))

    def test_objects_of_which_nothing_is_known(self):
        found = self.read(*(
            vcenters.managed(kind, 'x-1')
            for kind in ('Datastore', 'HostSystem', 'ComputeResource',
                         'Datacenter', 'StoragePod')), datastore())
        self.assertFalse(found.hosts['x-1'].live)
        self.assertFalse(found.datastores['x-1'].accessible)
        self.assertEqual('gold%2f1', found.datastores['datastore-1'].name)

    def test_objects_of_another_type_are_left_out(self):
        self.assertEqual({}, self.read(
            vcenters.managed('VirtualMachine', 'vm-1')).datastores)

    def watched(self, *names, **more):
        class Policies:
            def compliant_datastores(self, name):
                if name == 'unanswered':
                    raise exceptions.VimConnectionException('no answer')
                return frozenset({f'datastore-of-{name}'})
        return reader.WatchedPolicies(Policies(), names, lambda: more)

    def test_the_policies_watched_are_answered(self):
        found = self.read(datastore(), watched=self.watched(
            'gold', gold={'old'}, silver={'datastore-of-silver'}))
        self.assertEqual({'gold': {'datastore-of-gold'},
                          'silver': {'datastore-of-silver'}},
                         found.compliant)

    def test_there_is_no_inventory_without_the_configured_policies(self):
        self.assertRaises(exceptions.VimConnectionException, self.read,
                          datastore(), watched=self.watched('unanswered'))

    def test_only_what_decides_is_asked_for(self):
        """A whole summary or runtime costs many times more."""
        for kind, paths in reader.PATHS.items():
            for path in ('summary', 'runtime', 'config', 'info', 'vm'):
                self.assertNotIn(path, paths, kind)


class AssemblyTestCase(unittest.TestCase):
    """Inventories of what changes."""

    def test_an_inventory_does_not_change_with_what_comes_later(self):
        assembly = reader.Assembly()
        ref = references.Ref('Datastore', 'datastore-1')
        assembly.put(ref, {'name': 'gold'})
        before = assembly.inventory()
        assembly.put(ref, {'name': 'lead'})
        assembly.drop(references.Ref('HostSystem', 'never-seen'))
        self.assertEqual(('gold', 'lead'), (
            before.datastores['datastore-1'].name,
            assembly.inventory().datastores['datastore-1'].name))

    def test_a_datastore_that_changes_its_datacenter(self):
        assembly = reader.Assembly()
        here = [references.Ref('Datastore', 'datastore-1')]
        assembly.put(here[0], {'name': 'gold'})
        for moref, listed in (('datacenter-1', here), ('datacenter-1', []),
                              ('datacenter-2', here)):
            assembly.put(references.Ref('Datacenter', moref),
                         {'datastore': listed})
        self.assertEqual('datacenter-2', assembly.inventory().datastores[
            'datastore-1'].datacenter)

    def test_what_is_dropped_is_gone(self):
        assembly = reader.Assembly()
        for kind in ('Datastore', 'HostSystem', 'ClusterComputeResource',
                     'Datacenter', 'StoragePod'):
            assembly.put(references.Ref(kind, 'x-1'), {})
            assembly.drop(references.Ref(kind, 'x-1'))
        self.assertEqual(reader.Assembly().inventory(),
                         assembly.inventory())
