# SPDX-License-Identifier: Apache-2.0
"""Storage policies choose datastores, and are remembered, as a vCenter's storage policy API does it."""

import base64
import json
import ssl
import urllib.request

from oslo_vmware import api
from oslo_vmware import pbm as oslo_pbm
from pyVmomi import pbm
from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import vcenter_case
from simulator.conformance import wsdl_once
from simulator import observer

STORAGE = pbm.profile.ResourceType(resourceType='STORAGE')


class PolicyCase(vcenter_case.VCenterCase):

    flags = {**vcenter_case.VCenterCase.flags, 'policy': ['gold=LocalDS_1', 'any=*', 'none=']}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pbm = observer.policy_service(cls.vcenter, cls.client)

    def policies(self):
        ids = self.pbm.profileManager.QueryProfile(STORAGE, None)
        return {profile.name: profile for profile in self.pbm.profileManager.RetrieveContent(ids)}

    def hub(self, datastore):
        return pbm.placement.PlacementHub(hubType='Datastore', hubId=self.datastore(datastore)._moId)

    def names(self, hubs):
        by_id = {each._moId: each.name for each in self.all(vim.Datastore)}
        return sorted(by_id.get(hub.hubId, hub.hubId) for hub in hubs)

    def matching(self, policy, *datastores):
        hubs = [self.hub(name) for name in datastores] or None
        return self.names(self.pbm.placementSolver.QueryMatchingHub(hubs, self.policies()[policy].profileId))

    @staticmethod
    def wish(profile):
        return [vim.vm.DefinedProfileSpec(profileId=profile.profileId.uniqueId)]

    def ref(self, vm, disk=None, kind='virtualMachine'):
        if disk is not None:
            return pbm.ServerObjectRef(objectType='virtualDiskId', key=f'{vm._moId}:{disk.key}')
        return pbm.ServerObjectRef(objectType=kind, key=vm._moId)

    def associated(self, *args, **kwargs):
        profiles = {profile.profileId.uniqueId: name for name, profile in self.policies().items()}
        found = self.pbm.profileManager.QueryAssociatedProfile(self.ref(*args, **kwargs))
        return [profiles[each.uniqueId] for each in found]


class MatchingTestCase(PolicyCase):

    def test_PbmQueryProfile_has_those_of_an_install_and_those_of_the_flag(self):
        names = set(self.policies())
        self.assertLessEqual({'gold', 'any', 'none', 'VM Encryption Policy', 'vSAN Default Storage Policy'}, names)
        only_rules = self.pbm.profileManager.QueryProfile(STORAGE, 'DATA_SERVICE_POLICY')
        self.assertEqual([], list(only_rules))

    def test_PbmQueryMatchingHub_answers_from_the_table(self):
        every = ['LocalDS_0', 'LocalDS_1', 'LocalDS_2']
        self.assertEqual(['LocalDS_1'], self.matching('gold'))
        self.assertEqual(['LocalDS_1'], self.matching('gold', 'LocalDS_0', 'LocalDS_1'))
        self.assertEqual([], self.matching('gold', 'LocalDS_0'))
        self.assertEqual(every, self.matching('any'))
        self.assertEqual([], self.matching('none'))
        self.assertEqual(every, self.matching('VM Encryption Policy'), 'it restricts nothing')
        self.assertEqual([], self.matching('vSAN Default Storage Policy'), 'there is no vSAN')

    def test_PbmQueryMatchingHub_follows_a_rename(self):
        self.datastore('LocalDS_1').RenameDatastore('moved')
        self.addCleanup(self.datastore('moved').RenameDatastore, 'LocalDS_1')
        self.assertEqual(['moved'], self.matching('gold'))

    def test_PbmQueryMatchingHub_refuses_a_profile_that_is_not_there(self):
        with self.assertRaises(vmodl.fault.InvalidArgument):
            self.pbm.placementSolver.QueryMatchingHub(None, pbm.profile.ProfileId(uniqueId='no-such'))

    def test_PbmCheckCompatibility_and_PbmCheckRequirements_say_which_hubs_do_not_fit(self):
        gold = self.policies()['gold'].profileId
        results = self.pbm.placementSolver.CheckCompatibility(None, gold)
        self.assertEqual(['LocalDS_1'], self.names(each.hub for each in results if not each.error))
        self.assertEqual(3, len(results))
        requirement = pbm.placement.CapabilityProfileRequirement(profileId=gold)
        results = self.pbm.placementSolver.CheckRequirements([self.hub('LocalDS_0'), self.hub('LocalDS_1')], None, [requirement])
        self.assertEqual([True, False], [bool(each.error) for each in results])
        self.assertIsInstance(results[0].error[0], pbm.fault.CompatibilityCheckFault)

    def test_the_control_endpoint_fills_the_table_and_ids_are_stable(self):
        made = self.control('POST', '/policies', {'name': 'silver', 'datastores': ['LocalDS_0', 'LocalDS_2']})
        self.assertEqual(made['id'], self.policies()['silver'].profileId.uniqueId)
        self.assertEqual(['LocalDS_0', 'LocalDS_2'], self.matching('silver'))
        self.assertEqual(made, self.control('POST', '/policies', {'name': 'silver', 'datastores': ['LocalDS_2']}))
        self.assertEqual(['LocalDS_2'], self.matching('silver'))
        self.assertIn({'name': 'silver', 'id': made['id'], 'datastores': ['LocalDS_2']}, self.control('GET', '/policies'))
        self.control('DELETE', '/policies?name=silver')
        self.assertNotIn('silver', self.policies())
        self.assertIn('nowhere', self.refused_by_control('POST', '/policies', {'name': 'x', 'datastores': ['nowhere']}))

    def test_PbmCreate_of_a_policy_of_tags_matches_the_datastores_with_the_tag(self):
        rest = Rest(self.vcenter)
        category = rest.post('/rest/com/vmware/cis/tagging/category', {'create_spec': {
            'name': 'tier', 'description': '', 'cardinality': 'SINGLE', 'associable_types': ['Datastore']}})
        tag = rest.post('/rest/com/vmware/cis/tagging/tag', {'create_spec': {
            'name': 'fast', 'description': '', 'category_id': category}})
        capability = pbm.capability.CapabilityInstance(
            id=pbm.capability.CapabilityMetadata.UniqueId(namespace='http://www.vmware.com/storage/tag', id='tier'),
            constraint=[pbm.capability.ConstraintInstance(propertyInstance=[pbm.capability.PropertyInstance(
                id='com.vmware.storage.tag.tier.property', value=pbm.capability.types.DiscreteSet(values=['fast']))])])
        self.pbm.profileManager.Create(pbm.profile.CapabilityBasedProfileCreateSpec(
            name='tagged', description='', resourceType=STORAGE,
            constraints=pbm.profile.SubProfileCapabilityConstraints(subProfiles=[
                pbm.profile.SubProfileCapabilityConstraints.SubProfile(name='one', capability=[capability])])))
        self.assertEqual([], self.matching('tagged'))
        rest.post(f'/rest/com/vmware/cis/tagging/tag-association/id:{tag}?~action=attach', {
            'object_id': {'id': self.datastore('LocalDS_2')._moId, 'type': 'Datastore'}})
        self.assertEqual(['LocalDS_2'], self.matching('tagged'))


class AssociationTestCase(PolicyCase):

    def test_CreateVM_and_ReconfigVM_and_RelocateVM_remember_the_policies(self):
        policies = self.policies()
        vm = self.make_vm('with-policy', 'LocalDS_1', disks_mib=[1], vmProfile=self.wish(policies['gold']))
        self.assertEqual(['gold'], self.associated(vm))
        self.assertEqual([], self.associated(vm, self.disks(vm)[0]), 'a disk has the policy that is given to it')

        disk = self.new_disk(1, 3, self.disks(vm)[0].controllerKey)
        disk.profile = self.wish(policies['any'])
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[disk])))
        added = self.disks(vm)[-1]
        self.assertEqual(['any'], self.associated(vm, added))
        self.assertEqual(['gold', 'any'], self.associated(vm, kind='virtualMachineAndDisks'))
        entities = self.pbm.profileManager.QueryAssociatedEntity(policies['any'].profileId, 'virtualDiskId')
        self.assertEqual([f'{vm._moId}:{added.key}'], [each.key for each in entities])

        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=self.datastore('LocalDS_2'), profile=self.wish(policies['none']))))
        self.assertEqual(['none'], self.associated(vm))
        self.assertEqual(['any'], self.associated(vm, added), 'a disk that is not named keeps its policy')

        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(vmProfile=[vim.vm.EmptyProfileSpec()])))
        self.assertEqual([], self.associated(vm))
        results = self.pbm.profileManager.QueryAssociatedProfiles([self.ref(vm), self.ref(vm, added)])
        self.assertEqual([0, 1], [len(each.profileId) for each in results])
        self.destroy(vm)
        self.assertEqual([], list(self.pbm.profileManager.QueryAssociatedEntity(policies['any'].profileId, None)))

    def test_CloneVM_remembers_the_policy_of_its_own_specification(self):
        policies = self.policies()
        vm = self.make_vm('source', 'LocalDS_1', disks_mib=[1], vmProfile=self.wish(policies['gold']))
        disk = self.disks(vm)[0]
        location = vim.vm.RelocateSpec(
            datastore=self.datastore('LocalDS_0'), profile=self.wish(policies['any']),
            disk=[vim.vm.RelocateSpec.DiskLocator(diskId=disk.key, datastore=self.datastore('LocalDS_0'),
                                                  profile=self.wish(policies['none']))])
        clone = self.wait(vm.CloneVM_Task(self.datacenter.vmFolder, 'clone', vim.vm.CloneSpec(
            location=location, powerOn=False, template=False)))
        self.assertEqual(['any'], self.associated(clone))
        self.assertEqual(['none'], self.associated(clone, self.disks(clone)[0]))
        self.assertEqual(['gold'], self.associated(vm))
        self.destroy(clone)
        self.destroy(vm)

    def test_PbmCheckCompliance_compares_where_things_are_with_where_they_may_be(self):
        policies, compliance = self.policies(), self.pbm.complianceManager
        vm = self.make_vm('judged', 'LocalDS_1', disks_mib=[1], vmProfile=self.wish(policies['gold']))

        def status(*entities, profile=None):
            return [each.complianceStatus for each in compliance.CheckCompliance(list(entities), profile)]

        both = self.ref(vm, kind='virtualMachineAndDisks')
        self.assertEqual(['compliant', 'notApplicable'], status(both))
        self.assertEqual(['nonCompliant'], status(self.ref(vm), profile=policies['none'].profileId))
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        self.assertEqual(['nonCompliant'], status(self.ref(vm)))
        fetched = compliance.FetchComplianceResult([self.ref(vm)], None)[0]
        self.assertEqual(('nonCompliant', policies['gold'].profileId.uniqueId),
                         (fetched.complianceStatus, fetched.profile.uniqueId))
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[vim.vm.device.VirtualDeviceSpec(
            operation='edit', device=self.disks(vm)[0], profile=self.wish(policies['any']))])))
        self.assertEqual(['nonCompliant', 'compliant'], status(both))
        rollup = compliance.CheckRollupCompliance([self.ref(vm)])[0]
        self.assertEqual(('nonCompliant', 2), (rollup.overallComplianceStatus, len(rollup.result)))
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))))
        self.assertEqual('compliant', compliance.FetchRollupComplianceResult([self.ref(vm)])[0].overallComplianceStatus)
        self.destroy(vm)
        with self.assertRaises(vmodl.fault.InvalidArgument):
            compliance.CheckCompliance([self.ref(vm)], None)


class OsloTestCase(PolicyCase):
    """The same through oslo.vmware, whose WSDLs refuse what they do not know."""

    lenient = 'quoted-policy-cookie'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(wsdl_once.shared())
        cls._session = api.VMwareAPISession(
            cls.vcenter.host, cls.vcenter.user, cls.vcenter.password, 1, 0.1, port=cls.vcenter.port, cacert=cls.vcenter.cacert)
        cls.addClassCleanup(cls._session.logout)

    def session(self, version):
        self._session.pbm_wsdl_loc_set(oslo_pbm.get_pbm_wsdl_location(version))
        return self._session

    def test_policies_and_hubs(self):
        for version in '7.0', '8.0':
            with self.subTest(version):
                session = self.session(version)
                profile = oslo_pbm.get_profile_id_by_name(session, 'gold')
                self.assertEqual(self.policies()['gold'].profileId.uniqueId, profile.uniqueId)
                hubs = oslo_pbm.convert_datastores_to_hubs(session.pbm.client.factory, [])
                for name in 'LocalDS_0', 'LocalDS_1':
                    hub = session.pbm.client.factory.create('ns0:PbmPlacementHub')
                    hub.hubType, hub.hubId = 'Datastore', self.datastore(name)._moId
                    hubs.append(hub)
                self.assertEqual(['LocalDS_1'], self.names(oslo_pbm.filter_hubs_by_profile(session, hubs, profile)))
                self.assertEqual(['LocalDS_1'], self.names(oslo_pbm.filter_hubs_by_profile(session, None, profile)))
                results = session.invoke_api(session.pbm, 'PbmCheckCompatibility',
                                             session.pbm.service_content.placementSolver, profile=profile)
                self.assertEqual(['LocalDS_1'], self.names(each.hub for each in results if not hasattr(each, 'error')))

    def test_the_policy_of_a_machine(self):
        vm = self.make_vm('by-oslo', 'LocalDS_1', disks_mib=[1], vmProfile=self.wish(self.policies()['gold']))
        for version in '7.0', '8.0':
            with self.subTest(version):
                session = self.session(version)
                ref = session.pbm.client.factory.create('ns0:PbmServerObjectRef')
                ref.objectType, ref.key = 'virtualMachine', vm._moId
                found = session.invoke_api(session.pbm, 'PbmQueryAssociatedProfile',
                                           session.pbm.service_content.profileManager, entity=ref)
                self.assertEqual('gold', oslo_pbm.get_profiles_by_ids(session, found)[0].name)
                for method in 'PbmCheckCompliance', 'PbmFetchComplianceResult':
                    results = session.invoke_api(session.pbm, method, session.pbm.service_content.complianceManager,
                                                 entities=[ref])
                    self.assertEqual('compliant', results[0].complianceStatus)
        self.destroy(vm)


class Rest:
    """A session of the REST API, as far as tags need one."""

    def __init__(self, vcenter):
        self._vcenter = vcenter
        self._context = ssl.create_default_context(cafile=vcenter.cacert)
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, f'https://{vcenter.host}:{vcenter.port}', vcenter.user, vcenter.password)
        self._session = None
        basic = base64.b64encode(f'{vcenter.user}:{vcenter.password}'.encode()).decode()
        self._session = self.post('/rest/com/vmware/cis/session', None, {'Authorization': f'Basic {basic}'})

    def post(self, path, body, headers=None):
        headers = {'Content-Type': 'application/json', **(headers or {'vmware-api-session-id': self._session})}
        request = urllib.request.Request(
            f'https://{self._vcenter.host}:{self._vcenter.port}{path}', method='POST', headers=headers,
            data=b'' if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, context=self._context, timeout=30) as reply:
            text = reply.read()
        return json.loads(text)['value'] if text.strip() else None
