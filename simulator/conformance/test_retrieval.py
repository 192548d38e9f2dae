# SPDX-License-Identifier: Apache-2.0
"""PropertyCollector retrieves in pages, refuses paths that are none, and reports a lost session, as a vCenter does.

The reference is the vSphere Web Services API's: PropertyCollector, RetrieveOptions.maxObjects, RetrieveResult.token, PropertySpec.
The recording is govmomi's of an expired session (not_authenticated_fault.xml, govmomi fd06160).
"""

from pyVmomi import vim
from pyVmomi import vmodl
import requests

from simulator.conformance import vcenter_case

PC = vmodl.query.PropertyCollector


class RetrievalCase(vcenter_case.VCenterCase):

    def setUp(self):
        super().setUp()
        self.collector = self.content.propertyCollector

    @staticmethod
    def spec(objects, kind, *paths, all=False, report=None, select=(), skip=False):
        return PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=obj, selectSet=list(select), skip=skip) for obj in objects],
            propSet=[PC.PropertySpec(type=kind, pathSet=list(paths), all=all)], reportMissingObjectsInResults=report)

    def retrieve(self, spec, most=None, collector=None):
        return (collector or self.collector).RetrievePropertiesEx([spec], PC.RetrieveOptions(maxObjects=most))


class PagesTestCase(RetrievalCase):
    """PropertyCollector policy limits a result to 100 objects, whatever maxObjects says (users of several SDKs, on 8.0)."""

    flags = {'ds': 1, 'vm': 0}
    MANY = 230

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.content.rootFolder.childEntity[0].vmFolder
        cls.folders = [folder.CreateFolder(f'folder-{number}') for number in range(cls.MANY)]

    def names(self):
        return self.spec(self.folders, vim.Folder, 'name')

    def all_of(self, result, collector=None):
        """:returns: the names, and how many came at once"""
        sizes, names = [], []
        while True:
            sizes.append(len(result.objects))
            names += [each.propSet[0].val for each in result.objects]
            if not result.token:
                return names, sizes
            result = (collector or self.collector).ContinueRetrievePropertiesEx(result.token)

    def test_a_page_holds_100_objects_though_none_was_asked_for(self):
        names, sizes = self.all_of(self.retrieve(self.names()))
        self.assertEqual([100, 100, 30], sizes)
        self.assertEqual([f'folder-{number}' for number in range(self.MANY)], names)

    def test_max_objects_makes_pages_smaller_and_never_larger(self):
        self.assertEqual([90, 90, 50], self.all_of(self.retrieve(self.names(), 90))[1])
        self.assertEqual([100, 100, 30], self.all_of(self.retrieve(self.names(), 1000))[1])

    def test_a_negative_number_of_objects_is_refused(self):
        self.assertRaises(vmodl.fault.InvalidArgument, self.retrieve, self.names(), -1)

    def test_the_last_page_has_no_token(self):
        self.assertIsNone(self.retrieve(self.spec(self.folders[:100], vim.Folder, 'name')).token)

    def test_the_older_retrieve_properties_has_no_pages(self):
        self.assertEqual(self.MANY, len(self.collector.RetrieveContents([self.names()])))

    def test_a_token_is_good_once(self):
        token = self.retrieve(self.names()).token
        self.collector.ContinueRetrievePropertiesEx(token)
        self.assertRaises(vmodl.fault.InvalidArgument, self.collector.ContinueRetrievePropertiesEx, token)

    def test_a_token_that_was_never_given_is_refused(self):
        self.assertRaises(vmodl.fault.InvalidArgument, self.collector.ContinueRetrievePropertiesEx, 'none')
        self.assertRaises(vmodl.fault.InvalidArgument, self.collector.CancelRetrievePropertiesEx, 'none')

    def test_a_token_is_for_its_session_and_its_collector(self):
        token = self.retrieve(self.names()).token
        other = self.vcenter.connect().content.propertyCollector
        self.assertRaises(vmodl.fault.InvalidArgument, other.ContinueRetrievePropertiesEx, token)
        mine = self.collector.CreatePropertyCollector()
        self.addCleanup(mine.Destroy)
        self.assertRaises(vmodl.fault.InvalidArgument, mine.ContinueRetrievePropertiesEx, token)
        self.collector.ContinueRetrievePropertiesEx(token)

    def test_a_token_that_was_cancelled_is_refused(self):
        token = self.retrieve(self.names()).token
        self.collector.CancelRetrievePropertiesEx(token)
        self.assertRaises(vmodl.fault.InvalidArgument, self.collector.ContinueRetrievePropertiesEx, token)

    def test_a_retrieval_that_finds_nothing_has_no_result(self):
        folder = self.folders[0].CreateFolder('gone')
        folder.Destroy()
        self.assertIsNone(self.retrieve(self.spec([folder], vim.Folder, 'name', report=True)))


class LenientPagesTestCase(RetrievalCase):

    flags = {'ds': 120, 'vm': 0, 'lenient': 'paging,unknown-paths,lost-session-fault'}

    def test_paging_gives_all_objects_at_once(self):
        result = self.retrieve(self.spec(self.all(vim.Datastore), vim.Datastore, 'name'))
        self.assertEqual((120, None), (len(result.objects), result.token))

    def test_unknown_paths_are_missing_one_by_one(self):
        found = self.retrieve(self.spec([self.datastore()], vim.Datastore, 'nmae', 'name.length', 'name')).objects[0]
        self.assertEqual(['name'], [each.name for each in found.propSet])
        self.assertEqual({'nmae', 'name.length'}, {each.path for each in found.missingSet})
        self.assertEqual({vmodl.query.InvalidProperty}, {type(each.fault) for each in found.missingSet})

    def test_a_lost_session_is_a_fault(self):
        other = self.vcenter.connect()
        collector, root = other.content.propertyCollector, other.content.rootFolder
        other.content.sessionManager.Logout()
        self.assertRaises(vim.fault.NotAuthenticated, self.retrieve, self.spec([root], vim.Folder, 'name'),
                          collector=collector)


class PathsTestCase(RetrievalCase):
    """InvalidProperty is in PropertyCollector's lists of faults: for what is not a property of the type that is named."""

    flags = {'ds': 1, 'vm': 1, 'cluster': 1, 'standalone_host': 0}

    BAD = ('nmae', 'name.length', 'config.nothing', 'config.hardware.device.key', 'runtime.bootTime.year', 'parent.value',
           'childEntity',                                    # of another type
           'config.hardware.device[4000].capacityInKB',      # of VirtualDisk, which is a subclass of VirtualDevice
           'config.hardware.device[4000].backing.fileName')

    def setUp(self):
        super().setUp()
        self.vm = self.all(vim.VirtualMachine)[0]

    def test_an_unknown_path_is_refused_at_a_retrieval(self):
        for path in self.BAD:
            with self.subTest(path):
                with self.assertRaises(vmodl.query.InvalidProperty) as caught:
                    self.retrieve(self.spec([self.vm], vim.VirtualMachine, 'name', path))
                self.assertEqual(path, caught.exception.name)
                self.assertRaises(vmodl.query.InvalidProperty, self.collector.RetrieveContents,
                                  [self.spec([self.vm], vim.VirtualMachine, path)])

    def test_an_unknown_path_is_refused_at_a_filter(self):
        for path in self.BAD:
            with self.subTest(path), self.assertRaises(vmodl.query.InvalidProperty):
                self.collector.CreateFilter(self.spec([self.vm], vim.VirtualMachine, path), False)

    def test_an_unknown_path_of_a_traversal_is_refused(self):
        traversal = PC.TraversalSpec(type=vim.Folder, path='children', skip=False)
        self.assertRaises(vmodl.query.InvalidProperty, self.retrieve,
                          self.spec([self.content.rootFolder], vim.Folder, 'name', select=[traversal]))

    def test_a_property_of_a_derived_type_is_not_one_of_the_type_named(self):
        self.assertRaises(vmodl.query.InvalidProperty, self.retrieve, self.spec([self.vm], vim.ManagedEntity, 'config'))
        self.assertEqual(self.vm.name, self.retrieve(
            self.spec([self.vm], vim.ManagedEntity, 'name')).objects[0].propSet[0].val)

    def test_keyed_paths_of_the_declared_type_are_answered(self):
        disk = self.disks(self.vm)[0]
        path = f'config.hardware.device[{disk.key}].backing'
        found = self.retrieve(self.spec([self.vm], vim.VirtualMachine, path)).objects[0].propSet
        self.assertEqual([(path, disk.backing.fileName)], [(each.name, each.val.fileName) for each in found])

    def test_a_path_below_a_scalar_locks_nothing(self):
        self.assertRaises(vmodl.query.InvalidProperty, self.retrieve,
                          self.spec([self.vm], vim.VirtualMachine, 'name.length'))
        other = self.vcenter.connect()
        self.wait(vim.VirtualMachine(self.vm._moId, other._stub).Rename('renamed'))

    def test_a_type_that_is_none_is_refused(self):
        session = self.client._stub.cookie.split(';')[0]
        reply = requests.post(
            f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', verify=self.vcenter.cacert, timeout=60,
            headers={'Cookie': session}, data=f'''<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>
            <RetrieveProperties xmlns="urn:vim25"><_this type="PropertyCollector">{self.collector._moId}</_this><specSet>
            <propSet><type>Machine</type><pathSet>name</pathSet></propSet>
            <objectSet><obj type="VirtualMachine">{self.vm._moId}</obj></objectSet></specSet></RetrieveProperties></Body>
            </Envelope>''')
        self.assertEqual(500, reply.status_code)
        self.assertIn('InvalidType', reply.text)


class LostSessionTestCase(RetrievalCase):
    """As govmomi recorded it (not_authenticated_fault.xml): HTTP 200, each path in missingSet, with the object and privilege."""

    flags = {'ds': 1, 'vm': 1, 'cluster': 1, 'standalone_host': 0}

    def setUp(self):
        super().setUp()
        lost = self.vcenter.connect()
        self.lost = lost.content
        self.view = self.lost.viewManager.CreateContainerView(self.lost.rootFolder, [vim.VirtualMachine], True)
        self.vm = self.view.view[0]
        self.control('DELETE', f'/sessions/{self.newest()}')

    def newest(self):
        return self.control('GET', '/sessions')[-1]['id']

    def test_each_path_is_missing_and_says_why(self):
        found = self.retrieve(self.spec([self.vm], vim.VirtualMachine, 'name', 'config'),
                              collector=self.lost.propertyCollector).objects[0]
        self.assertEqual([], found.propSet)
        self.assertEqual(['name', 'config'], [each.path for each in found.missingSet])
        for each in found.missingSet:
            self.assertIsInstance(each.fault, vim.fault.NotAuthenticated)
            self.assertEqual((self.vm._moId, 'System.View'), (each.fault.object._moId, each.fault.privilegeId))

    def test_the_older_method_tells_it_as_well(self):
        found = self.lost.propertyCollector.RetrieveContents([self.spec([self.vm], vim.VirtualMachine, 'name')])
        self.assertIsInstance(found[0].missingSet[0].fault, vim.fault.NotAuthenticated)

    def test_what_needs_no_session_is_told_beside(self):
        found = self.retrieve(self.spec([self.lost.sessionManager], vim.SessionManager, 'defaultLocale', 'message',
                                        'sessionList'), collector=self.lost.propertyCollector).objects[0]
        self.assertEqual(['defaultLocale'], [each.name for each in found.propSet])
        self.assertEqual(['message', 'sessionList'], [each.path for each in found.missingSet])
        self.assertEqual({self.content.rootFolder._moId}, {each.fault.object._moId for each in found.missingSet})

    def test_a_traversal_finds_nothing(self):
        traversal = PC.TraversalSpec(type=vim.Folder, path='childEntity', skip=False)
        found = self.retrieve(self.spec([self.lost.rootFolder], vim.ManagedEntity, 'name', select=[traversal]),
                              collector=self.lost.propertyCollector)
        self.assertEqual([self.lost.rootFolder], [each.obj for each in found.objects])

    def test_the_views_of_the_session_are_gone(self):
        traversal = PC.TraversalSpec(type=vim.view.ContainerView, path='view', skip=False)
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, self.retrieve,
                          self.spec([self.view], vim.VirtualMachine, 'name', select=[traversal], skip=True),
                          collector=self.lost.propertyCollector)

    def test_other_methods_are_refused_with_the_fault(self):
        self.assertRaises(vim.fault.NotAuthenticated, self.vm.Rename, 'other')
        self.assertRaises(vim.fault.NotAuthenticated, self.lost.propertyCollector.CreateFilter,
                          self.spec([self.vm], vim.VirtualMachine, 'name'), False)
        self.assertRaises(vim.fault.NotAuthenticated, self.lost.propertyCollector.ContinueRetrievePropertiesEx, 'any')
