# SPDX-License-Identifier: Apache-2.0
"""Sets custom attributes of the vCenter's objects (CustomFieldsManager)."""

from typing import Any

from lxml import etree

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

_KEY = soap.tag('key')


class CustomFields:
    """The custom attributes of one vCenter."""

    def __init__(self, session: Any, client: soap.Client) -> None:
        """Make no call."""
        self._session = session
        self._client = client

    def define(self, name: str, kind: str) -> int:
        """Make an attribute for objects of a kind (AddCustomFieldDef).

        :returns: its key
        :raises PrivilegeMissing: without Global.ManageCustomFields
        """
        reply = self._call('AddCustomFieldDef',
                           {'name': name, 'moType': kind})
        return int(reply[0].findtext(_KEY) or 0)

    def set(self, entity: references.Ref, key: int, value: str) -> None:
        """Give an object's attribute a value; '' takes it away (SetField).

        :raises PrivilegeMissing: without Global.SetCustomField on the object
        """
        self._call('SetField', {'entity': entity, 'key': key, 'value': value})

    def _call(self, method: str, arguments: dict[str, Any]) -> etree._Element:
        manager = self._session.vim.service_content.customFieldsManager
        reply: etree._Element = self._session.invoke_api(
            self._client, 'call', method, manager, arguments)
        return reply
