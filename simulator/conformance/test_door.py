# SPDX-License-Identifier: Apache-2.0
"""What stops oslo.vmware at a stock simulator does not stop it here. Each test is one stop."""

import logging
import ssl
import urllib.request

from oslo_vmware import api
from oslo_vmware import exceptions
from oslo_vmware import pbm
from oslo_vmware import vim_util
from suds import client as suds_client
from suds import transport

from simulator.conformance import vcenter_case
from simulator.conformance import wsdl_once


class DoorTestCase(vcenter_case.VCenterCase):

    flags = {'ds': 3, 'cluster': 2, 'host': 2, 'vm': 3, 'folder': 1}
    lenient = 'quoted-policy-cookie'  # oslo.vmware sends it so

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        logging.disable(logging.CRITICAL)  # oslo.vmware logs each fault, with its trace
        cls.addClassCleanup(logging.disable, logging.NOTSET)
        with wsdl_once.shared():
            cls.session = api.VMwareAPISession(
                cls.vcenter.host, cls.vcenter.user, cls.vcenter.password, 2, 0.05, port=cls.vcenter.port,
                cacert=cls.vcenter.cacert, pbm_wsdl_loc=pbm.get_pbm_wsdl_location('8.0'))
        cls.addClassCleanup(cls.session.logout)

    def call(self, method, *args, **kwargs):
        return self.session.invoke_api(self.session.vim, method, *args, **kwargs)

    def test_the_wsdl_is_served_and_needs_no_other_document(self):
        context = ssl.create_default_context(cafile=self.vcenter.cacert)
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/sdk/vimService.wsdl'

        asked = []

        class Remembering(transport.Transport):

            def open(self, request):
                asked.append(request.url)
                return urllib.request.urlopen(request.url, context=context)

        suds_client.Client(url, transport=Remembering(), cache=None)
        self.assertEqual([url], asked)

    def test_a_recursive_traversal_ends_and_finds_each_object_once(self):
        for kind, count in (('VirtualMachine', 9), ('HostSystem', 5), ('Datastore', 3), ('ClusterComputeResource', 2)):
            with self.subTest(kind):
                result = self.session.invoke_api(vim_util, 'get_objects', self.session.vim, kind, 1000, ['name'])
                names = [each.propSet[0].val for each in result.objects]
                self.assertEqual((count, count), (len(names), len(set(names))))

    def test_pages_hold_no_property_without_a_value(self):
        paths = ['name', 'config.managedBy', 'summary.config.instanceUuid', 'config.annotation']
        result = self.session.invoke_api(vim_util, 'get_objects', self.session.vim, 'VirtualMachine', 2, paths)
        found = 0
        while result:
            for each in result.objects:
                found += 1
                for prop in each.propSet:
                    self.assertTrue(hasattr(prop, 'val'), prop)
            result = self.session.invoke_api(vim_util, 'continue_retrieval', self.session.vim, result)
        self.assertEqual(9, found)

    def test_an_extension_registers_with_a_time_without_a_zone(self):
        vim_util.register_extension(self.session.vim, 'org.example.door', 'volume', label='l', summary='s')
        found = vim_util.find_extension(self.session.vim, 'org.example.door')
        self.assertEqual('org.example.door', found.key)

    def test_datastores_are_of_a_type_that_drivers_take(self):
        result = self.session.invoke_api(vim_util, 'get_objects', self.session.vim, 'Datastore', 100, ['summary'])
        for each in result.objects:
            summary = each.propSet[0].val
            self.assertEqual(('VMFS', True), (summary.type, summary.accessible))
            self.assertTrue(summary.url.startswith('ds:///vmfs/volumes/'))

    def test_policies_speak_to_the_wsdls_that_oslo_vmware_carries(self):
        names = {profile.name for profile in pbm.get_all_profiles(self.session)}
        self.assertIn('vSAN Default Storage Policy', names)
        profile = pbm.get_profile_id_by_name(self.session, 'VM Encryption Policy')
        refs = self.session.invoke_api(vim_util, 'get_objects', self.session.vim, 'Datastore', 100, ['name']).objects
        hubs = pbm.convert_datastores_to_hubs(self.session.pbm.client.factory, [each.obj for each in refs])
        self.assertEqual(3, len(pbm.filter_hubs_by_profile(self.session, hubs, profile)))

    def test_faults_are_the_exceptions_of_their_names(self):
        content = self.session.vim.service_content
        datacenter = self.session.invoke_api(vim_util, 'get_objects', self.session.vim, 'Datacenter', 1, ['name']).objects[0].obj
        with self.assertRaises(exceptions.FileNotFoundException):
            self.session.wait_for_task(self.call('DeleteVirtualDisk_Task', content.virtualDiskManager,
                                                 name='[LocalDS_0] nowhere.vmdk', datacenter=datacenter))
        spec = self.session.vim.client.factory.create('ns0:FileBackedVirtualDiskSpec')
        spec.capacityKb, spec.adapterType, spec.diskType = 100 << 30, 'lsiLogic', 'preallocated'
        with self.assertRaises(exceptions.NoDiskSpaceException):
            self.session.wait_for_task(self.call('CreateVirtualDisk_Task', content.virtualDiskManager,
                                                 name='[LocalDS_0] large.vmdk', datacenter=datacenter, spec=spec))
        with self.assertRaises(exceptions.ManagedObjectNotFoundException):
            self.call('CreateFolder', vim_util.get_moref('group-0', 'Folder'), name='x')
