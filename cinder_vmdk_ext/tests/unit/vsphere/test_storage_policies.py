# SPDX-License-Identifier: Apache-2.0
"""Storage policies are read no more often than necessary."""

import types
import unittest

from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import storage_policies


class Pbm:
    """A session whose storage policy service answers."""

    def __init__(self):
        self.policies = {'gold': ['datastore-1', 'datastore-2'], 'lead': []}
        self.asked = []
        self.error = None
        content = types.SimpleNamespace(profileManager='profiles',
                                        placementSolver='solver')
        self.pbm = types.SimpleNamespace(
            service_content=content,
            client=types.SimpleNamespace(factory=types.SimpleNamespace(
                create=lambda name: types.SimpleNamespace())))

    def invoke_api(self, module, method, *args, **kwargs):
        self.asked.append(method)
        if self.error:
            raise self.error
        return getattr(self, method)(**kwargs)

    def PbmQueryProfile(self, **kwargs):
        return list(self.policies)

    def PbmRetrieveContent(self, profileIds):
        return [types.SimpleNamespace(
            name=name, profileId=types.SimpleNamespace(uniqueId=f'id-{name}'))
            for name in profileIds]

    def PbmQueryMatchingHub(self, hubsToSearch, profile):
        assert hubsToSearch is None, 'one call for all datastores'
        found = [types.SimpleNamespace(hubType='Datastore', hubId=moref)
                 for moref in self.policies[profile.uniqueId[3:]]]
        return found + [types.SimpleNamespace(hubType='StoragePod',
                                              hubId='group-p1')]


class PolicyDirectoryTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.session = Pbm()
        self.directory = storage_policies.PolicyDirectory(self.session, 300,
                                                          lambda: self.now)

    def compliant(self, name='gold'):
        return self.directory.compliant_datastores(name)

    def test_names_are_sorted(self):
        self.session.policies = {'b': [], 'a': []}
        self.assertEqual(['a', 'b'], self.directory.names())

    def test_an_unknown_policy_has_no_id_and_no_datastores(self):
        self.assertIsNone(self.directory.policy_id('gone'))
        self.assertEqual(frozenset(), self.compliant('gone'))

    def test_an_id_is_asked_for_once(self):
        for _ in range(3):
            self.assertEqual('id-gold',
                             self.directory.policy_id('gold').uniqueId)
        self.assertEqual(1, self.session.asked.count('PbmRetrieveContent'))

    def test_policies_are_asked_for_once_in_their_time(self):
        for _ in range(3):
            self.assertEqual(['gold', 'lead'], self.directory.names('gold'))
            self.directory.policy_id('lead')
        self.assertEqual(['PbmQueryProfile', 'PbmRetrieveContent'],
                         self.session.asked)
        self.now = 300
        self.directory.names()
        self.assertEqual(4, len(self.session.asked))

    def test_a_policy_that_is_not_known_is_looked_for_at_once(self):
        self.directory.names()
        self.session.policies['new'] = []
        self.assertNotIn('new', self.directory.names())
        self.assertIn('new', self.directory.names('new'))
        self.assertEqual('id-new', self.directory.policy_id('new').uniqueId)

    def test_those_known_stand_while_there_is_no_answer(self):
        self.directory.names()
        self.session.error = exceptions.VimConnectionException('no reply')
        self.now = 300
        self.assertEqual('id-gold',
                         self.directory.policy_id('gold').uniqueId)
        asked = len(self.session.asked)
        self.directory.names()
        self.assertEqual(asked, len(self.session.asked))
        with self.assertRaises(exceptions.VimConnectionException):
            self.directory.policy_id('new')

    def test_compliant_datastores_without_clusters(self):
        self.assertEqual({'datastore-1', 'datastore-2'}, self.compliant())
        self.assertEqual(frozenset(), self.compliant('lead'))

    def test_they_are_asked_for_again_when_their_time_is_over(self):
        self.compliant()
        self.session.policies['gold'] = ['datastore-3']
        self.now = 299
        self.assertEqual({'datastore-1', 'datastore-2'}, self.compliant())
        self.now = 300
        self.assertEqual({'datastore-3'}, self.compliant())

    def test_without_an_answer_the_last_one_stands(self):
        """The storage policy service takes no datastore down with it."""
        self.compliant()
        self.now = 1000
        self.session.error = exceptions.VimConnectionException('no reply')
        self.assertEqual({'datastore-1', 'datastore-2'}, self.compliant())
        self.session.error = None
        self.session.policies['gold'] = []
        self.assertEqual({'datastore-1', 'datastore-2'}, self.compliant(),
                         'the service has its pause')
        self.now = 1300
        self.assertEqual(frozenset(), self.compliant())

    def test_without_any_answer_it_is_an_error(self):
        self.session.error = exceptions.VimConnectionException('no reply')
        self.assertRaises(exceptions.VimConnectionException, self.compliant)
