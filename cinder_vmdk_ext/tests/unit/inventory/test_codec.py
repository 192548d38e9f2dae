# SPDX-License-Identifier: Apache-2.0
"""Plain values survive the way to JSON and back."""

import json
import re
import unittest

from cinder_vmdk_ext.inventory import codec
from cinder_vmdk_ext import model


class CodecTestCase(unittest.TestCase):

    def there_and_back(self, value):
        return codec.decode(type(value), json.loads(json.dumps(
            codec.encode(value))))

    def test_settings_and_inventory_come_back_equal(self):
        values = (
            model.Settings('b', cluster_names=('c', 'd'),
                           datastore_regex=re.compile('x.*'),
                           max_over_subscription_ratio=None),
            model.Settings('b'), model.Inventory(),
            model.Inventory(
                datastores={'ds-1': model.Datastore(
                    'ds-1', 'a%2fb', mounted_hosts=frozenset({'h-1', 'h-2'}),
                    custom_values=((101, 'drain'),),
                    unreadable=(('path', 'no'),))},
                hosts={'h-1': model.Host('h-1', 'host', 'c-1')},
                clusters={'c-1': model.Cluster('c-1', 'c', 'rp', frozenset(
                    {'h-1'}))},
                datacenters={'dc': model.Datacenter('dc', 'DC')},
                compliant={'gold': frozenset({'ds-1'})},
                storage_pods={'p': model.StoragePod('p', 'pod')},
                attributes={101: 'cinder_state'},
                tagged=frozenset({'ds-1'})))
        for value in values:
            self.assertEqual(value, self.there_and_back(value))

    def test_what_is_of_another_type_is_an_error(self):
        for value in ([], {'datastores': 1}, {'datastores': {'a': {}}}):
            with self.subTest(value), self.assertRaises(
                    (TypeError, AttributeError)):
                codec.decode(model.Inventory, value)
