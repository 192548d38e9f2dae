# SPDX-License-Identifier: Apache-2.0
"""What a saved inventory does not have is said, and not guessed."""

import unittest

from cinder_vmdk_ext.cmd import facts
from cinder_vmdk_ext.inventory import codec
from cinder_vmdk_ext import model

RESERVATION = model.Reservation(100, frozenset({'ds-1', 'ds-2'}))
FOUND = {
    'stats': {}, 'service': ['h', None, 'nova'], 'why_no_service': '',
    'inventory': codec.encode(model.Inventory()),
    'settings': codec.encode(model.Settings('b')), 'filters': [],
    'types': [{'id': '1', 'name': 'gold', 'specs': {}, 'refused': '',
               'compliant': ['ds-1'],
               'reservation': codec.encode(RESERVATION)},
              {'id': '2', 'name': 'plain', 'specs': {}, 'refused': '',
               'compliant': None, 'reservation': None}],
    'default_type': None, 'volumes': {'v': [2, 'nova', '1']},
    'hosts': {'vm-1': 'host-1'}}


class SavedFactsTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.known = facts.SavedFacts(FOUND)

    def test_it_has_what_was_saved(self):
        gold = self.known.type('1')
        self.assertEqual((gold, frozenset({'ds-1'})),
                         (self.known.type('gold'), gold.compliant))
        self.assertEqual(RESERVATION, gold.reservation)
        plain = self.known.type('plain')
        self.assertEqual((None, None), (plain.compliant, plain.reservation))
        self.assertEqual(facts.NO_TYPE, self.known.type(None))
        self.assertEqual(facts.VolumeFacts(2, 'nova', '1'),
                         self.known.volume('v'))
        self.assertEqual('host-1', self.known.host_of('vm-1'))

    def test_what_was_not_saved_is_an_error(self):
        for ask, why in ((self.known.type, 'no volume type'),
                         (self.known.volume, 'status error'),
                         (self.known.host_of, 'no instance')):
            with self.assertRaisesRegex(LookupError, why):
                ask('gone')

    def test_what_is_no_saved_inventory_is_refused(self):
        for text in ('', '[]', '{}', '[' * 100000):
            with self.subTest(text[:9]), self.assertRaisesRegex(
                    ValueError, 'not written by "inventory save"'):
                facts.load(text)
