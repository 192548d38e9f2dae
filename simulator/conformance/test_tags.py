# SPDX-License-Identifier: Apache-2.0
"""Tags over REST: /rest, and /api as of vSphere 7.0 U2; and that tags and policies last."""

import os
import signal
import ssl
import tempfile
import unittest

from pyVim.task import WaitForTask
from pyVmomi import pbm
from pyVmomi import SoapStubAdapter
from pyVmomi import vim
import requests

from simulator import client as simulator_client
from simulator.conformance import test_supervision
from simulator import control as control_endpoint

STORAGE = pbm.profile.ResourceType(resourceType='STORAGE')


class Api:
    """A session of the REST API at /api."""

    def __init__(self, vcenter):
        self._vcenter = vcenter
        self._http = requests.Session()
        self._http.trust_env, self._http.verify = False, vcenter.cacert
        self.reply = self._http.post(self._url('/session'), auth=(vcenter.user, vcenter.password), timeout=30)
        self.reply.raise_for_status()
        self._http.headers['vmware-api-session-id'] = self.reply.json()

    def _url(self, path):
        return f'https://{self._vcenter.host}:{self._vcenter.port}/api{path}'

    def __call__(self, method, path, **body):
        """The reply's JSON; the reply itself stays in self.reply."""
        self.reply = self._http.request(method, self._url(path), json=body or None, timeout=30)
        return self.reply.json() if self.reply.content else None

    def make(self, name):
        """A category with one tag; returns their ids."""
        category = self('POST', '/cis/tagging/category', name=f'{name}s', description='', cardinality='MULTIPLE',
                        associable_types=['Datastore'])
        return category, self('POST', '/cis/tagging/tag', name=name, description='as it was', category_id=category)


def first_datastore(client):
    return client.content.rootFolder.childEntity[0].datastore[0]


class ApiTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.vcenter = simulator_client.Simulator(ds=2, vm=0).start()
        cls.addClassCleanup(cls.vcenter.stop)
        cls.object = {'type': 'Datastore', 'id': first_datastore(cls.vcenter.connect())._moId}

    def test_a_tag_from_its_making_to_its_end(self):
        api = Api(self.vcenter)
        category, tag = api.make('tier')
        self.assertEqual(201, api.reply.status_code)
        self.assertIn(tag, api('GET', '/cis/tagging/tag'))
        self.assertEqual({'name': 'tier', 'category_id': category, 'description': 'as it was'}.items(),
                         {name: value for name, value in api('GET', f'/cis/tagging/tag/{tag}').items()
                          if name in ('name', 'category_id', 'description')}.items())
        association = f'/cis/tagging/tag-association/{tag}?action='
        self.assertEqual([], api('POST', f'{association}list-attached-objects'))
        self.assertIsNone(api('POST', f'{association}attach', object_id=self.object))
        self.assertEqual(204, api.reply.status_code)
        self.assertEqual([self.object], api('POST', f'{association}list-attached-objects'))
        self.assertEqual([tag], api('POST', '/cis/tagging/tag-association?action=list-attached-tags', object_id=self.object))
        self.assertEqual([tag], api('POST', '/cis/tagging/tag?action=list-tags-for-category', category_id=category))
        api('PATCH', f'/cis/tagging/tag/{tag}', name='level')
        self.assertEqual('level', api('GET', f'/cis/tagging/tag/{tag}')['name'])
        api('POST', f'{association}detach', object_id=self.object)
        self.assertEqual([], api('POST', f'{association}list-attached-objects'))
        api('DELETE', f'/cis/tagging/tag/{tag}')
        api('DELETE', f'/cis/tagging/category/{category}')
        self.assertEqual((204, []), (api.reply.status_code, api('GET', '/cis/tagging/tag')))

    def test_errors_have_a_type_and_a_status(self):
        api = Api(self.vcenter)
        category, _ = api.make('twice')
        for status, kind, request in (
                (404, 'NOT_FOUND', ('GET', '/cis/tagging/tag/urn:none')),
                (400, 'ALREADY_EXISTS', ('POST', '/cis/tagging/tag'))):
            answer = api(*request, **({'name': 'twice', 'description': '', 'category_id': category}
                                      if request[0] == 'POST' else {}))
            self.assertEqual((status, kind), (api.reply.status_code, answer['error_type']))
        api('DELETE', '/session')
        self.assertEqual('UNAUTHENTICATED', api('GET', '/cis/tagging/tag')['error_type'])
        self.assertEqual(401, api.reply.status_code)

    def test_before_70U2_there_is_only_rest(self):
        with simulator_client.Simulator(ds=1, vm=0, api_version='7.0.1.0') as vcenter:
            with self.assertRaises(requests.HTTPError) as caught:
                Api(vcenter)
            self.assertEqual(404, caught.exception.response.status_code)


class LastingTestCase(unittest.TestCase):
    """Tags and policies outlive the process; also when they were made just before it was killed."""

    def start(self, **flags):
        self.vcenter = simulator_client.Simulator(ds=2, vm=0, **flags).start()
        self.addCleanup(self.vcenter.stop)
        self.client = self.vcenter.connect()
        self.manager = self.profile_manager()

    def profile_manager(self):
        stub = SoapStubAdapter(host=self.vcenter.host, port=self.vcenter.port, path='/pbm/sdk', version='pbm.version.version14',
                               sslContext=ssl.create_default_context(cafile=self.vcenter.cacert))
        stub.cookie = self.client._stub.cookie
        stub.requestContext = {'vcSessionCookie': stub.cookie.split('=', 1)[1].split(';')[0].strip('"')}
        return pbm.ServiceInstance('ServiceInstance', stub).RetrieveContent().profileManager

    def make(self):
        capability = pbm.capability.CapabilityInstance(
            id=pbm.capability.CapabilityMetadata.UniqueId(namespace='http://www.vmware.com/storage/tag', id='tier'),
            constraint=[pbm.capability.ConstraintInstance(propertyInstance=[pbm.capability.PropertyInstance(
                id='com.vmware.storage.tag.tier.property', value=pbm.capability.types.DiscreteSet(values=['fast']))])])
        self.policy = self.manager.Create(pbm.profile.CapabilityBasedProfileCreateSpec(
            name='made by a client', description='', resourceType=STORAGE,
            constraints=pbm.profile.SubProfileCapabilityConstraints(subProfiles=[
                pbm.profile.SubProfileCapabilityConstraints.SubProfile(name='one', capability=[capability])])))
        self.folder = self.client.content.rootFolder.CreateFolder('made at last')._moId
        api = Api(self.vcenter)
        _, self.tag = api.make('fast')
        self.object = {'type': 'Datastore', 'id': first_datastore(self.client)._moId}
        api('POST', f'/cis/tagging/tag-association/{self.tag}?action=attach', object_id=self.object)

    def assert_there(self):
        self.client = self.vcenter.connect()
        names = {child._moId: child.name for child in self.client.content.rootFolder.childEntity}
        self.assertEqual('made at last', names.get(self.folder))
        api = Api(self.vcenter)
        self.assertEqual('as it was', api('GET', f'/cis/tagging/tag/{self.tag}')['description'])
        self.assertEqual([self.object], api('POST', f'/cis/tagging/tag-association/{self.tag}?action=list-attached-objects'))
        profile, = self.profile_manager().RetrieveContent([self.policy])
        value = profile.constraints.subProfiles[0].capability[0].constraint[0].propertyInstance[0].value
        self.assertEqual(('made by a client', ['fast']), (profile.name, list(value.values)))

    def test_they_are_in_a_saved_state(self):
        self.start()
        self.make()
        with tempfile.TemporaryDirectory() as folder:
            state = os.path.join(folder, 'state')
            control_endpoint.Control(self.vcenter.control_url).call('POST', '/state', {'directory': state})
            self.vcenter.stop()
            self.vcenter = simulator_client.Simulator(state_load=state).start()
            self.addCleanup(self.vcenter.stop)
            self.assert_there()

    def test_what_was_answered_just_before_a_kill_is_there(self):
        self.start(supervise=True)
        control = control_endpoint.Control(self.vcenter.control_url)
        control.process()
        for _ in range(3):
            self.make()
            before = control.process()['pid']
            os.kill(before, signal.SIGKILL)

            def restarted():
                assert control.process()['pid'] != before
            test_supervision.eventually(restarted)
            self.assert_there()
            api = Api(self.vcenter)
            for category in api('GET', '/cis/tagging/category'):
                api('DELETE', f'/cis/tagging/category/{category}')
            WaitForTask(vim.Folder(self.folder, self.client._stub).Destroy())
            self.manager = self.profile_manager()
