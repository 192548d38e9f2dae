# SPDX-License-Identifier: Apache-2.0
"""The facts for ``pool explain``, read now or from a file.

The file is JSON with a version. It contains no user, password or address of
the vCenter, and its lists have a maximum length.
"""

import datetime
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple
from typing import Protocol

from oslo_config import cfg
from oslo_serialization import jsonutils
from oslo_utils import uuidutils

from cinder import context as cinder_context
from cinder import exception
from cinder import objects
from cinder.volume import volume_types
from cinder.volume import volume_utils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.inventory import codec
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.vsphere import references

FORMAT = 'cinder-vmdk-ext inventory'
VERSION = 2
NO_POOL = 'no pool'
#: Maximum numbers of saved volumes in an error state, the latest first, and of
#: VMs with their hosts.
MOST_VOLUMES = 1000
MOST_VMS = 20000
#: A longer file is none of ours.
MOST_BYTES = 1 << 28


class TypeFacts(NamedTuple):
    """A volume type."""

    id: str | None
    name: str
    specs: dict[str, str]
    refused: str  # why the driver refuses it on each pool; '': it does not
    compliant: frozenset[str] | None  # datastores; None: it has no policy
    reservation: model.Reservation | None  # None: its QoS specs ask for none


NO_TYPE = TypeFacts(None, '', {}, '', None, None)


class VolumeFacts(NamedTuple):
    """The facts about a volume."""

    size_gib: int
    zone: str
    type_id: str | None


class Facts(Protocol):
    """The facts about a backend."""

    stats: dict[str, Any]
    service: explain.SchedulerService
    why_no_service: str
    inventory: model.Inventory
    settings: model.Settings
    filter_names: list[str]

    def type(self, name: str | None) -> TypeFacts:
        """A volume type by name or id; None: the default type.

        :raises LookupError, NotFound: there is none
        """

    def volume(self, volume_id: str) -> VolumeFacts:
        """A volume.

        :raises LookupError, NotFound: it is unknown
        """

    def host_of(self, instance: str) -> str:
        """The host (moref) of an instance, by its UUID or reference.

        :raises LookupError: it is unknown
        """


class LiveFacts:
    """The present facts, from the vCenter and Cinder."""

    def __init__(self, opened: Any) -> None:
        """:param opened: a Backend that is connected"""
        self._opened = opened
        self.stats = opened.upstream.statistics()
        self.service, self.why_no_service = _service(opened)
        self.inventory: model.Inventory = opened.inventory()
        self.settings: model.Settings = opened.selection.settings
        self.filter_names = explain.configured()

    def type(self, name: str | None) -> TypeFacts:
        """As :meth:`Facts.type`."""
        context = cinder_context.get_admin_context()
        return self._type(
            volume_types.get_by_name_or_id(context, name) if name
            else volume_types.get_default_volume_type(context) or {})

    def _type(self, found: dict[str, Any]) -> TypeFacts:
        specs = dict(found.get('extra_specs') or {})
        refused, compliant, reservation = '', None, None
        try:
            self._opened.admission.check_type(found.get('id'))
        except exception.Invalid as error:
            refused = str(error)
        else:
            policy = specs.get(extra_specs.POLICY)
            if policy is not None:
                compliant = frozenset(
                    self._opened.directory.compliant_datastores(policy))
            needs = self._opened.selection.needs(found.get('id'))
            reservation = needs and needs.reservation
        return TypeFacts(found.get('id'), found.get('name', ''), specs,
                         refused, compliant, reservation)

    def volume(self, volume_id: str) -> VolumeFacts:
        """As :meth:`Facts.volume`."""
        return _volume(objects.Volume.get_by_id(
            cinder_context.get_admin_context(), volume_id))

    def host_of(self, instance: str) -> str:
        """As :meth:`Facts.host_of`."""
        if uuidutils.is_uuid_like(instance):
            vm = self._opened.volumeops.get_backing_by_uuid(instance)
        else:
            vm = references.Ref('VirtualMachine', instance)
        if vm is not None:
            try:
                host = self._opened.volumeops.properties(
                    vm, 'runtime.host').get('runtime.host')
            except exceptions.VMWARE_ERRORS:
                host = None
            if host is not None:
                return str(host.value)
        raise LookupError(f'the vCenter has no instance {instance!r} with a '
                          'host; give the id of a Nova server, or vm-12')

    def saved(self) -> dict[str, Any]:
        """All facts, in the form of the file."""
        context = cinder_context.get_admin_context()
        failed = objects.VolumeList.get_all(
            context, limit=MOST_VOLUMES, sort_keys=['created_at'],
            sort_dirs=['desc'], filters={'status': 'error'})
        default = volume_types.get_default_volume_type(context) or {}
        return {
            'stats': jsonutils.loads(jsonutils.dumps(self.stats)),
            'service': list(self.service),
            'why_no_service': self.why_no_service,
            'inventory': codec.encode(self.inventory),
            'settings': codec.encode(self.settings),
            'filters': self.filter_names,
            'types': [codec.encode(self._type(each)._asdict()) for each in
                      volume_types.get_all_types(context).values()],
            'default_type': default.get('id'),
            'volumes': {each.id: list(_volume(each)) for each in failed},
            'hosts': self._hosts()}

    def _hosts(self) -> dict[str, str]:
        """Hosts of VMs, by their references and instance UUIDs."""
        found: dict[str, str] = {}
        for ref, uuid, host in self._opened.volumeops.hosts_of_all()[
                :MOST_VMS]:
            found |= {name: host for name in (ref, uuid) if name}
        return found


class SavedFacts:
    """The facts in a file, as they were when it was written."""

    def __init__(self, found: dict[str, Any]) -> None:
        """:raises KeyError, TypeError, ValueError: they are incomplete"""
        self.stats: dict[str, Any] = found['stats']
        self.service = explain.SchedulerService(*found['service'])
        self.why_no_service: str = found['why_no_service']
        self.inventory: model.Inventory = codec.decode(model.Inventory,
                                                       found['inventory'])
        self.settings: model.Settings = codec.decode(model.Settings,
                                                     found['settings'])
        self.filter_names: list[str] = found['filters']
        self._types = [TypeFacts(**each | {
            'compliant': None if each['compliant'] is None
            else frozenset(each['compliant']),
            'reservation': None if each['reservation'] is None
            else codec.decode(model.Reservation, each['reservation'])})
            for each in found['types']]
        self._default: str | None = found['default_type']
        self._volumes: dict[str, list[Any]] = found['volumes']
        self._hosts: dict[str, str] = found['hosts']

    def type(self, name: str | None) -> TypeFacts:
        """As :meth:`Facts.type`."""
        wanted = name or self._default
        if wanted is None:
            return NO_TYPE
        for found in self._types:
            if wanted in (found.id, found.name):
                return found
        raise LookupError(f'the file has no volume type {wanted!r}')

    def volume(self, volume_id: str) -> VolumeFacts:
        """As :meth:`Facts.volume`."""
        if volume_id not in self._volumes:
            raise LookupError(
                f'the file has no volume {volume_id}; it has at most '
                f'{MOST_VOLUMES} volumes, which were in status error')
        return VolumeFacts(*self._volumes[volume_id])

    def host_of(self, instance: str) -> str:
        """As :meth:`Facts.host_of`."""
        if instance not in self._hosts:
            raise LookupError(
                f'the file has no instance {instance!r} with a host; it has '
                f'at most {MOST_VMS} VMs')
        return self._hosts[instance]


def dump(backends: dict[str, dict[str, Any]],
         now: datetime.datetime) -> str:
    """The text of a file about backends (:meth:`LiveFacts.saved`)."""
    return str(jsonutils.dumps({
        'format': FORMAT, 'version': VERSION, 'saved_at': now.isoformat(),
        'backends': backends}, indent=1, sort_keys=True)) + '\n'


def load(text: str) -> dict[str, SavedFacts]:
    """The facts of each backend in a file.

    :raises ValueError: it is not such a file, or has another version
    """
    if len(text) > MOST_BYTES:
        raise ValueError('the file is too long')
    try:
        found = jsonutils.loads(text)
        if found['format'] != FORMAT:
            raise ValueError(found['format'])
        version = found['version']
        if version == VERSION:
            return {name: SavedFacts(each)
                    for name, each in found['backends'].items()}
    except (ValueError, TypeError, KeyError, AttributeError,
            RecursionError) as error:
        raise ValueError('the file was not written by "inventory save", or '
                         f'is incomplete: {error}') from None
    raise ValueError(f'the file has version {version!r}; this release reads '
                     f'version {VERSION}')


def _volume(volume: Any) -> VolumeFacts:
    return VolumeFacts(volume.size, volume.availability_zone or '',
                       volume.volume_type_id)


def _service(opened: Any) -> tuple[explain.SchedulerService, str]:
    """A backend's service, and why the scheduler does not use it."""
    host, cluster = opened.owner
    found = [each for each in objects.ServiceList.get_all(
        cinder_context.get_admin_context(), {'binary': 'cinder-volume'})
        if each.host == host or (cluster and each.cluster_name == cluster)]
    zone = found[0].availability_zone if found else (
        cfg.CONF.storage_availability_zone)
    why = ''
    if not found:
        why = f'no cinder-volume has registered as {host}'
    elif all(each.disabled for each in found):
        why = 'it is disabled'
    elif not any(each.is_up and not each.disabled for each in found):
        why = 'it is down: its last report is too old'
    return explain.SchedulerService(host, cluster, zone), why


def pools_of(stats: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pools of a report; the backend itself if it is the only pool."""
    yield from stats.get('pools') or [{
        'pool_name': stats.get('volume_backend_name')
        or volume_utils.DEFAULT_POOL_NAME, **stats}]


def others(inventory: model.Inventory, settings: model.Settings,
           pools: list[dict[str, Any]]) -> dict[str, str]:
    """The datastores that are not pools, each with the reason."""
    named = {pool['pool_name'] for pool in pools}
    in_pools = {each for pool in pools for each in pool.get('datastores', ())}
    return {name: why for name, why in pool_stats.ineligible_names(
        inventory, settings).items()
        if name not in named | in_pools}


def state_of(stats: dict[str, Any]) -> str:
    """The state of a backend that has no pool, or is down."""
    return NO_POOL if stats['backend_state'] == 'up' else 'down'
