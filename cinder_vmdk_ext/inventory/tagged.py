# SPDX-License-Identifier: Apache-2.0
"""The inventory, with the datastores that carry the tag which drains them."""

from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import tagging


class TaggedSource:
    """An inventory source that adds which datastores carry the tag."""

    def __init__(self, reader: inventory_reader.InventorySource,
                 tagged: tagging.Tagged) -> None:
        self._reader = reader
        self._tagged = tagged
        self._last: tuple[model.Inventory, model.Inventory] | None = None

    def read(self) -> model.Inventory:
        """As the source beneath; the same object while nothing changes."""
        known = self._reader.read()
        tagged = self._tagged.datastores()
        last = self._last
        if last and last[0] is known and last[1].tagged == tagged:
            return last[1]
        found = known.evolved(tagged=tagged)
        if last:
            found.inherit(last[1])
        self._last = known, found
        return found
