# SPDX-License-Identifier: Apache-2.0
"""The inventory, with the datastores that carry the drain tag."""

from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import tagging


class TaggedSource:
    """An inventory source that adds which datastores carry the tag."""

    def __init__(self, reader: inventory_reader.InventorySource,
                 tagged: tagging.Tagged) -> None:
        self._reader = reader
        self._tagged = tagged
        self._completed = inventory_reader.Completed()

    def read(self) -> model.Inventory:
        """As the wrapped source; the same object while nothing changes."""
        return self._completed.of(self._reader.read(),
                                  tagged=self._tagged.datastores())
