# SPDX-License-Identifier: Apache-2.0
"""An administrator drains datastores, as seen from Cinder."""

import time
from unittest import mock

from pyVmomi import vim
import requests

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests import webserver
from cinder_vmdk_ext.vsphere import tagging

REST = '/rest/com/vmware/cis'


class DrainCase(backend_case.BackendCase):
    """What the pool of a datastore says."""

    def pool(self, name='LocalDS_1'):
        stats = self.driver.get_volume_stats(refresh=True)
        return next(pool for pool in stats['pools']
                    if pool['pool_name'] == name)

    def assert_drained(self, reason, name='LocalDS_1'):
        """Within the few seconds in which the vCenter reports a change."""
        # The state and the count of volumes come by notices of their own.
        self.until(lambda: reason in self.pool(name)['pool_state_reason'])
        pool = self.pool(name)
        self.assertEqual(('drain', 0, False), (
            pool['pool_state'], pool['free_capacity_gb'],
            pool['thin_provisioning_support']))

    def assert_available(self, name='LocalDS_1'):
        self.until(lambda: self.pool(name)['pool_state'] == 'available')

    def until(self, holds):
        deadline = time.monotonic() + 60
        while not holds():
            self.assertLess(time.monotonic(), deadline, 'not so after 60 s')
            time.sleep(0.1)


class AttributeTestCase(DrainCase):
    """The custom attribute."""

    def setUp(self):
        super().setUp()
        self.manager = self.service.content.customFieldsManager

    def define(self, name):
        field = self.manager.AddCustomFieldDef(name, vim.Datastore)
        self.addCleanup(self.manager.RemoveCustomFieldDef, field.key)
        return field.key

    def test_it_drains_and_gives_back(self):
        self.assert_available()
        key = self.define('cinder_state')
        volume = self.create()
        datastore = self.datastore('LocalDS_1')
        self.manager.SetField(datastore, key, 'drain')
        self.assert_drained('1 volume is left')
        error = self.assertRaises(exceptions.NoPlacement, self.create)
        self.assertIn("its attribute 'cinder_state' says 'drain'", str(error))
        self.assertEqual((True, None), self.driver.migrate_volume(
            self.context, volume, self.there('LocalDS_2')))
        self.until(lambda: 'no volumes are left' in self.pool()[
            'pool_state_reason'])
        self.manager.SetField(datastore, key, '')
        self.assert_available()
        self.assert_on('LocalDS_1', self.create())

    def test_volumes_on_it_go_on_to_work(self):
        volume = self.create()
        self.manager.SetField(self.datastore('LocalDS_1'),
                              self.define('cinder_state'), 'drain')
        self.assert_drained('1 volume is left')
        self.driver.extend_volume(volume, 2)
        self.attach(volume)
        self.assertEqual(2, self.truth(volume).size_gib)

    def test_another_attribute_may_be_it(self):
        self.driver = self.make_driver(vmdk_ext_drain_attribute='zustand')
        self.manager.SetField(self.datastore('LocalDS_1'),
                              self.define('zustand'), 'drain')
        self.assert_drained("'zustand'")

    def test_an_attribute_that_is_renamed_drains_no_more(self):
        key = self.define('cinder_state')
        self.manager.SetField(self.datastore('LocalDS_1'), key, 'drain')
        self.assert_drained('cinder_state')
        self.manager.RenameCustomFieldDef(key, 'other')
        self.assert_available()


class TagTestCase(DrainCase):
    """The tag, put on by REST as an administrator's tool does."""

    OPTIONS = {'vmdk_ext_drain_tag': 'state:draining'}

    def setUp(self):
        super().setUp()
        self.http = requests.Session()
        self.addCleanup(self.http.close)
        self.http.trust_env = False
        self.http.verify = self.vcenter.cacert
        self.http.headers['vmware-api-session-id'] = self.post('/session')
        category = self.post('/tagging/category', create_spec={
            'name': 'state', 'description': '', 'cardinality': 'SINGLE',
            'associable_types': ['Datastore']})
        self.tag = self.post('/tagging/tag', create_spec={
            'name': 'draining', 'description': '', 'category_id': category})
        self.addCleanup(self.delete, f'/tagging/category/id:{category}')
        self.addCleanup(self.delete, f'/tagging/tag/id:{self.tag}')

    def url(self, path):
        return f'https://{self.vcenter.host}:{self.vcenter.port}{REST}{path}'

    def post(self, path, **body):
        reply = self.http.post(self.url(path), json=body, auth=(
            self.vcenter.user, self.vcenter.password))
        reply.raise_for_status()
        return reply.json()['value'] if reply.content.strip() else None

    def delete(self, path):
        self.http.delete(self.url(path)).raise_for_status()

    def put_on(self, action, datastore):
        self.post(f'/tagging/tag-association/id:{self.tag}?~action={action}',
                  object_id={'type': 'Datastore', 'id': datastore._moId})

    def test_it_drains_and_gives_back(self):
        tagged = self.driver.backend.inventory_source._tagged
        self.put_on('attach', self.datastore('LocalDS_1'))
        tagged._clock = lambda: time.monotonic() + tagging.KEEP_SECONDS
        self.assert_drained("the tag 'state:draining'")
        self.assertRaises(exceptions.NoPlacement, self.create)
        self.put_on('detach', self.datastore('LocalDS_1'))
        tagged._clock = lambda: time.monotonic() + 2 * tagging.KEEP_SECONDS
        self.assert_available()

    def test_what_is_known_of_tags_takes_one_request_a_minute(self):
        tagged = self.driver.backend.inventory_source._tagged
        now = time.monotonic()
        with mock.patch.object(tagged, '_clock', lambda: now):
            for _ in range(4):
                self.control.reset_journal()
                now += tagging.KEEP_SECONDS
                tagged.datastores()
        self.assertEqual(1, sum(
            each['calls'] for name, each
            in self.control.journal()['methods'].items()
            if name.endswith((' /api', ' /rest'))))

    def test_a_file_of_authorities_decides_though_insecure_is_set(self):
        with webserver.WebServer() as stranger:
            self.assertRaises(
                exceptions.InvalidSettings, self.make_driver,
                vmware_ca_file=stranger.cert_file, vmware_insecure=True)


class OldTagTestCase(TagTestCase):
    """The same at a vCenter that has no tags at /api yet."""

    VCENTER = {**TagTestCase.VCENTER, 'api_version': '7.0.1.0'}


class MaintenanceTestCase(DrainCase):
    """Maintenance mode."""

    def test_it_tells_what_is_left(self):
        self.create()
        task = self.datastore('LocalDS_1').DatastoreEnterMaintenanceMode().task
        self.until(lambda: self.pool()['pool_state'] == 'maintenance')
        self.until(lambda: '1 volume is left' in self.pool()[
            'pool_state_reason'])
        self.assertRaises(exceptions.NoPlacement, self.create)
        if task and task.info.state == 'running':
            task.CancelTask()
        try:
            self.wait(self.datastore('LocalDS_1')
                      .DatastoreExitMaintenanceMode_Task())
        except vim.fault.InvalidState:
            pass
        self.assert_available()
