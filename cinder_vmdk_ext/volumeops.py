# SPDX-License-Identifier: Apache-2.0
"""What the plugin does in the vCenter that upstream does not, or not so."""

from typing import Any
from typing import NamedTuple

from lxml import etree

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext import collector
from cinder_vmdk_ext import soap

_VOLUME_ID = 'config.extraConfig["cinder.volume.id"]'
_PATHS = {'VirtualMachine': ('name', 'config.instanceUuid', _VOLUME_ID,
                             'config.files.vmPathName', 'datastore')}


class Backing(NamedTuple):
    """A shadow VM, as far as a bulk read tells."""

    moref: str
    name: str
    datastores: tuple[str, ...]
    datastore_name: str  # of its .vmx file


class Backings:
    """The shadow VMs of the vCenter at one moment, by volume."""

    def __init__(self, by_id: dict[str, Backing],
                 by_name: dict[str, Backing]) -> None:
        self._by_id = by_id
        self._by_name = by_name

    def find(self, volume_id: str, name: str) -> Backing | None:
        """The volume's shadow VM: by UUID, or by name as in old releases."""
        return self._by_id.get(volume_id) or self._by_name.get(name)


class VolumeOps(upstream.VMwareVolumeOps):
    """Volume operations; calls that differ from upstream's."""

    def __init__(self, session: Any, max_objects: int, extension_key: str,
                 extension_type: str, *, client: soap.Client) -> None:
        super().__init__(session, max_objects, extension_key, extension_type)
        self._client = client

    def read_backings(self) -> Backings:
        """All shadow VMs in one bulk read.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        found = collector.read_all(self._session, self._client, _PATHS)
        by_id: dict[str, Backing] = {}
        by_name: dict[str, Backing] = {}
        for (_kind, moref), seen in found.items():
            backing = _backing(moref, seen)
            by_name.setdefault(backing.name, backing)
            # The UUID is the volume's id since upstream's release 2.0; older
            # shadow VMs carry the id in their extra configuration only.
            for key in (_option_value(seen.get(_VOLUME_ID)),
                        seen.get('config.instanceUuid')):
                if key:
                    by_id[key] = backing
        return Backings(by_id, by_name)


def _backing(moref: str, seen: dict[str, Any]) -> Backing:
    path = seen.get('config.files.vmPathName') or ''
    return Backing(
        moref, seen.get('name') or '',
        tuple(ref.value for ref in seen.get('datastore') or ()),
        path[1:].partition(']')[0] if path.startswith('[') else '')


def _option_value(option: Any) -> str | None:
    if not isinstance(option, etree._Element):
        return None
    return option.findtext(f'{{{soap.VIM}}}value')
