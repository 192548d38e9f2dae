# SPDX-License-Identifier: Apache-2.0
"""Upstream's requests are answered in its form by the plugin's choice."""

import types
import unittest
from unittest import mock

from oslo_vmware import vim_util

from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext.tests.unit import worlds

GIB = 1 << 30
SELECTOR = selector.DatastoreSelector


class Vcenter:
    """A reader, a directory of policies and a session, in one."""

    policies = {'silver': frozenset({'datastore-2'})}

    def __init__(self, inventory):
        self.inventory = inventory

    def read(self):
        return self.inventory

    def invoke_api(self, module, method, *args):
        return getattr(module, method)(*args)

    def policy_id(self, name):
        return (types.SimpleNamespace(uniqueId=name)
                if name in self.policies else None)

    def compliant_datastores(self, name):
        return self.policies[name]


class SelectorTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        vcenter = Vcenter(worlds.inventory(
            worlds.datastore(free_gib=90),
            worlds.datastore('datastore-2', 'lead%2f2', free_gib=10,
                             type='nfs')))
        self.selector = selector.DatastoreSelector(
            None, vcenter, 100, reader=vcenter, directory=vcenter,
            settings=worlds.settings(), books=reservations.Reservations())

    def select(self, hosts=None, **req):
        return self.selector.select_datastore(
            {SELECTOR.SIZE_BYTES: GIB} | req, hosts)

    def test_the_answer_is_in_upstreams_words(self):
        host, pool, summary = self.select()
        self.assertEqual(
            [('host-1', 'HostSystem'), ('resgroup-1', 'ResourcePool'),
             ('datastore-1', 'Datastore')],
            [(vim_util.get_moref_value(ref), vim_util.get_moref_type(ref))
             for ref in (host, pool, summary.datastore)])
        self.assertEqual(('gold', 'vmfs', 100 * GIB, 90 * GIB, True), (
            summary.name, summary.type, summary.capacity, summary.freeSpace,
            summary.accessible))

    def test_the_name_is_as_the_vcenter_stores_it(self):
        """Paths are made of it."""
        _, _, summary = self.select(**{
            selector.POOL: 'lead%2f2'})
        self.assertEqual('lead%2f2', summary.name)

    def test_each_key_of_upstreams_is_heeded(self):
        for req in ({SELECTOR.HARD_ANTI_AFFINITY_DS: ['datastore-1']},
                    {SELECTOR.HARD_AFFINITY_DS_TYPE: {'nfs'}},
                    {SELECTOR.PROFILE_NAME: 'silver'}):
            with self.subTest(**req):
                self.assertEqual('lead%2f2', self.select(**req)[2].name)

    def test_a_thin_disk_is_asked_for(self):
        pinned = {selector.POOL: 'lead%2f2',
                  SELECTOR.SIZE_BYTES: 50 * GIB}
        self.assertRaises(exceptions.NoPlacement, self.select, **pinned)
        self.select(**(pinned | {selector.THIN: True}))

    def test_the_host_of_an_instance_is_heeded(self):
        with self.assertRaisesRegex(exceptions.NoPlacement,
                                    "gold: host 'host-9' cannot use it"):
            self.select([vim_util.get_moref('host-9', 'HostSystem')])

    def test_each_refused_datastore_is_in_the_error(self):
        with self.assertRaises(exceptions.NoPlacement) as caught:
            self.select(**{SELECTOR.SIZE_BYTES: 95 * GIB})
        self.assertEqual({'gold', 'lead/2'}, set(caught.exception.reasons))

    def test_a_policy_that_does_not_exist(self):
        with mock.patch.object(
                SELECTOR.__mro__[1], 'get_profile_id',
                side_effect=vmdk_exceptions.ProfileNotFoundException(
                    storage_profile='gone')):
            self.assertRaises(vmdk_exceptions.ProfileNotFoundException,
                              self.select, **{SELECTOR.PROFILE_NAME: 'gone'})

    def test_compliance(self):
        for moref, policy, expected in (('datastore-2', 'silver', True),
                                        ('datastore-1', 'silver', False),
                                        ('datastore-1', None, True)):
            self.assertEqual(expected, self.selector.is_datastore_compliant(
                vim_util.get_moref(moref, 'Datastore'), policy))
