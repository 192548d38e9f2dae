# SPDX-License-Identifier: Apache-2.0
"""The calls that define and set a custom attribute."""

import unittest
from unittest import mock

from lxml import etree

from cinder_vmdk_ext.vsphere import custom_fields
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap


class CustomFieldsTestCase(unittest.TestCase):

    def setUp(self):
        self.session = mock.Mock()
        self.fields = custom_fields.CustomFields(self.session, 'client')
        self.manager = self.session.vim.service_content.customFieldsManager

    def test_a_definition_returns_its_key(self):
        reply = etree.fromstring(
            f'<r xmlns="{soap.VIM}"><returnval><key>7</key></returnval></r>')
        self.session.invoke_api.return_value = reply
        self.assertEqual(7, self.fields.define('state', 'Datastore'))
        self.session.invoke_api.assert_called_once_with(
            'client', 'call', 'AddCustomFieldDef', self.manager,
            {'name': 'state', 'moType': 'Datastore'})

    def test_a_value_is_set_on_the_object(self):
        entity = references.Ref('Datastore', 'datastore-1')
        self.fields.set(entity, 7, 'drain')
        self.session.invoke_api.assert_called_once_with(
            'client', 'call', 'SetField', self.manager,
            {'entity': entity, 'key': 7, 'value': 'drain'})
