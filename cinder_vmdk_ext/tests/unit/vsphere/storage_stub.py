# SPDX-License-Identifier: Apache-2.0
"""A stub of a vCenter for tests in which no call may be made."""

from typing import Any

from cinder_vmdk_ext.vsphere import references

#: Every call of it fails the test.
NO_VCENTER: Any = object()


class Tree:
    """A vCenter of which only the inventory is read."""

    def __init__(self, *objects):
        """:param objects: type, reference and properties of each"""
        self._objects = {references.Ref(kind, value): facts
                         for kind, value, facts in objects}

    def all(self, **_paths):
        return self._objects
