# SPDX-License-Identifier: Apache-2.0
"""What every volume operation stands on: session, pools, placement.

Collaborators are wired into upstream's seams here; what they decide is in
:mod:`cinder_vmdk_ext.scheduling.placement` and
:mod:`cinder_vmdk_ext.scheduling.pool_names`.
"""

import contextlib
import contextvars
import functools
import os
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import versionutils
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import pbm
from oslo_vmware import vim_util

from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions
from cinder.volume.drivers.vmware import vmdk
from cinder.volume import volume_types
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import cache
from cinder_vmdk_ext.backings import locator
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.backings import verified_ops
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.inventory import cache as inventory_cache
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext.inventory import tagged
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import reporter
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.vsphere import logout
from cinder_vmdk_ext.vsphere import preflight
from cinder_vmdk_ext.vsphere import session as sessions
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import storage_policies
from cinder_vmdk_ext.vsphere import tagging
from cinder_vmdk_ext.vsphere import tasks
from cinder_vmdk_ext.vsphere import updates

LOG = logging.getLogger(__name__)


class _Intent(NamedTuple):
    """What a datastore is being selected for, further up the call chain."""

    pool: str | None  # None: any datastore will do
    specs: Callable[[], dict[str, str]]  # the type's extra specs
    excluded: tuple[str, ...] = ()  # morefs of datastores


# Upstream selects datastores deep inside its flows, where neither the volume
# nor its pool is at hand. A context variable is private to the thread, native
# or green, that set it.
_INTENT: contextvars.ContextVar[_Intent | None] = contextvars.ContextVar(
    'vmdk_ext_intent', default=None)


class WiredDriver(vmdk.VMwareVcVmdkDriver):
    """Upstream's driver with the plugin's collaborators in its seams."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(config.vmdk_ext_opts)
        self._noted_session = logout.Note()
        logout.at_exit(self, self._noted_session, functools.partial(
            _make_client, self.configuration))
        self._reservations = reservations.Reservations()
        self._promised = state.Sizes(functools.partial(
            state.promised_gib, self.host, self.cluster_name),
            shared=bool(self.cluster_name))
        # Until the options are read: as upstream.
        self._settings = model.Settings('', datastore_pools=False)
        self._client: soap.Client | None = None
        self._reader: inventory_reader.InventorySource | None = None
        self._stream: updates.Stream | None = None
        self._directory: storage_policies.PolicyDirectory | None = None
        self._own_volumeops: volumeops.VolumeOps | None = None
        self._own_ds_sel: selector.DatastoreSelector | None = None
        self._reporter: reporter.Reporter | None = None
        self._locator: locator.Locator | None = None

    @staticmethod
    def get_driver_options() -> list[Any]:
        """Upstream's options and the plugin's."""
        return vmdk.VMwareVcVmdkDriver.get_driver_options() + list(
            config.vmdk_ext_opts)

    # -- Setting up ---------------------------------------------------------

    def _validate_params(self) -> None:
        config.check_connection_options(self.configuration)
        self._settings = config.settings(self.configuration)

    def do_setup(self, context: Any) -> None:
        """Log in and get ready to serve (Cinder hook; may run again).

        :raises InvalidSettings: an option is missing or wrong
        """
        try:
            self._set_up(context)
        except Exception:
            # Cinder gives up on this object, or tries again with a new login.
            self._end_session()
            raise

    def _set_up(self, context: Any) -> None:
        try:
            super().do_setup(context)
        except vmdk_exceptions.ClusterNotFoundException as error:
            raise self._unknown_cluster(error.kwargs['cluster']) from None
        if self._directory is not None:
            self._check_policies(self._directory)

    def _end_session(self) -> None:
        """End the session of an earlier setup, or of a process that died."""
        if self._stream is not None:
            self._stream.stop()
        if isinstance(self._session, sessions.Session):
            self._session.logout()
        logout.end(self._noted_session, self._make_client)

    def _create_session(self) -> Any:
        preflight.check(self._make_client, self.configuration)
        self._end_session()
        try:
            session = self._make_session()
        except vmware_exceptions.VimFaultException as fault:
            raise preflight.refused_login(fault, self.configuration) from None
        self._wire(session)
        return session

    def _make_session(self) -> sessions.Session:
        options = self.configuration
        return sessions.Session(
            options.vmware_host_ip, options.vmware_host_username,
            options.vmware_host_password, options.vmware_api_retry_count,
            options.vmware_task_poll_interval,
            wsdl_loc=options.safe_get('vmware_wsdl_location'),
            port=options.vmware_host_port, cacert=options.vmware_ca_file,
            insecure=options.vmware_insecure,
            pool_size=options.vmware_connection_pool_size,
            op_id_prefix='c-vol', note=self._noted_session.write)

    def _make_client(self, cookie: Any = None) -> soap.Client:
        return _make_client(self.configuration, cookie)

    def _wire(self, session: Any) -> None:
        """Build the collaborators of a session anew; makes no calls."""
        max_objects = self.configuration.vmware_max_objects_retrieval
        self._client = self._make_client(
            lambda: session.vim.get_http_cookie())
        self._directory = storage_policies.PolicyDirectory(
            session, self.configuration.vmdk_ext_policy_cache_seconds)
        watched = self._directory, self._settings.storage_policies
        live = inventory_cache.LiveView(
            self._watch(session, self._client),
            inventory_reader.InventoryReader(session, self._client, *watched),
            *watched,
            observe=self._reservations.observe)
        self._reader = self._with_tags(live)
        self._own_volumeops = verified_ops.CertainOps(
            session, max_objects, vmdk.EXTENSION_KEY, vmdk.EXTENSION_TYPE,
            client=self._client)
        self._own_volumeops.inventory_view = live
        if self._stream is not None:
            self._own_volumeops.backing_view = cache.BackingView(
                self._stream, self._own_volumeops)
        self._own_ds_sel = selector.DatastoreSelector(
            self._own_volumeops, session, max_objects,
            ds_regex=self._settings.datastore_regex, reader=self._reader,
            directory=self._directory, settings=self._settings,
            books=self._reservations)
        self._locator = locator.Locator(self._own_volumeops, self._reader,
                                        self._settings)
        self._reporter = reporter.Reporter(
            self._reader, self._settings,
            self._promised.gib, volumes=self._locator.volumes_by_datastore,
            # A migration is handed the pool's capabilities, no others.
            everywhere=lambda: {'location_info': self._location_info()})

    def _with_tags(self, reader: inventory_reader.InventorySource
                   ) -> inventory_reader.InventorySource:
        name = self._settings.drain_tag
        if name is None:
            return reader
        options = self.configuration
        connect = functools.partial(
            tagging.Service,
            options.vmware_host_ip, options.vmware_host_port,
            options.vmware_host_username, options.vmware_host_password,
            not options.vmware_insecure and (options.vmware_ca_file or True))
        return tagged.TaggedSource(reader, tagging.Tagged(connect, name))

    def _watch(self, session: Any, client: soap.Client) -> updates.Stream:
        """Prepare the one long poll, in place of an older session's."""
        if self._stream is not None:
            self._stream.stop()
        self._stream = updates.Stream(session, client)
        session.task_waiter = tasks.TaskWaiter(
            self._stream,
            poll_seconds=self.configuration.vmware_task_poll_interval)
        weakref.finalize(self, self._stream.stop)
        return self._stream

    @property
    def volumeops(self) -> Any:
        """The plugin's operations, also where upstream made its own."""
        return self._own_volumeops or self._volumeops

    @property
    def ds_sel(self) -> Any:
        """The plugin's selector, also where upstream made its own."""
        return self._own_ds_sel or self._ds_sel

    def _get_vc_version(self) -> str:
        """The vCenter's version, or the newest that oslo.vmware can serve.

        Upstream looks up the WSDL of the storage policy service by this
        version and gives up where oslo.vmware carries none; the service is
        compatible upwards.
        """
        version = super()._get_vc_version()
        if not version or pbm.get_pbm_wsdl_location(version):
            return version
        served = newest_pbm_version(version)
        if served is None:
            return version
        LOG.warning('vCenter %(version)s is newer than what oslo.vmware '
                    'describes; its storage policy service is spoken to as '
                    'that of %(served)s.',
                    {'version': version, 'served': served})
        return served

    def _unknown_cluster(self, name: str) -> exceptions.InvalidSettings:
        known = ', '.join(sorted(self.volumeops._get_all_clusters()))
        return exceptions.InvalidSettings(
            'vmware_cluster_name', f'the vCenter has no cluster {name!r}',
            f'name some of its clusters: {known or "it has none"}')

    def _check_policies(self, directory: storage_policies.PolicyDirectory
                        ) -> None:
        wanted = self._settings.storage_policies
        if not wanted:
            return
        known = directory.names()
        for name in wanted:
            if name not in known:
                raise exceptions.InvalidSettings(
                    'vmware_storage_profile',
                    f'the vCenter has no storage policy {name!r}',
                    f'name some of its policies: {", ".join(known) or "none"}')

    # -- Statistics ---------------------------------------------------------

    def _update_volume_stats(self) -> None:
        """Statistics with one pool per datastore (Cinder: get_volume_stats).

        ``vmware_enable_volume_stats`` does not matter: figures are always the
        vCenter's own.
        """
        if self._reporter is None:
            super()._update_volume_stats()
            return
        self._stats = self._backend_stats() | self._reporter.report()

    def _backend_stats(self) -> dict[str, Any]:
        return {
            'volume_backend_name': self._settings.backend_name,
            'vendor_name': 'VMware',
            'driver_version': self.VERSION,
            'storage_protocol': 'vmdk',
            'location_info': self._location_info(),
            'shared_targets': False,
            'multiattach': False,
            'online_extend_support': True,
            'clone_across_pools': True,
            'filter_function': self.get_filter_function(),
            'goodness_function': self.get_goodness_function(),
        }

    def _location_info(self) -> str:
        """Tells pools of this vCenter from those of others."""
        about = self.session.vim.service_content.about
        return f'VmdkExtDriver:{about.instanceUuid}'

    # -- Pools of existing volumes ------------------------------------------

    def get_pool(self, volume: Any) -> str | None:
        """The pool of a volume from before pools (Cinder hook).

        :returns: the pool of the datastore that holds its disk; None when it
            has no backing, whose pool nobody can know
        """
        if self._locator is None or not self._settings.datastore_pools:
            return self._settings.backend_name
        return self._locator.locate([volume]).get(volume['id'])

    def update_provider_info(self, volumes: Any, snapshots: Any
                             ) -> tuple[list[dict[str, str]] | None, None]:
        """Tell Cinder where volumes are, as it starts (Cinder hook).

        A host that names another pool than the datastore that holds the disk
        is put right: that of a volume which upstream's driver made (its pool
        is the backend's name), or which was moved while the service was down.
        All volumes take one bulk read. Those that another service of the
        cluster is busy with are left alone.

        :returns: nothing for Cinder to write: it would write over what was
            changed since it read its records
        """
        if self._locator is None or not volumes:
            return None, None
        try:
            known = self._locator.locate(volumes, fresh=True)
        except vmware_exceptions.VMwareDriverException as error:
            LOG.warning('The pools of existing volumes were not checked: %s',
                        error)
            return None, None
        for volume in filter(records.is_at_rest, volumes):
            try:
                self._put_right(volume, known.get(volume['id']))
            except Exception as error:
                # Deleted by another service, say; the others are to start.
                LOG.warning('The pool of volume %(volume)s was not checked: '
                            '%(error)s', {'volume': volume['id'],
                                          'error': error})
        return None, None

    def _put_right(self, volume: Any, found: str | None) -> None:
        pool = found or self._present_name(volume)
        if not self._settings.datastore_pools:
            # Also of volumes that have no backing: their pool is gone.
            pool = self._settings.backend_name
        values = records.on_pool(volume, pool) if pool is not None else {}
        if found is not None:
            values['provider_id'] = state.BACKED
        if not records.says(volume, values):
            before = volume['host']
            if records.change(volume, values) and before != volume['host']:
                _log_move(volume, before)

    def _present_name(self, volume: Any) -> str | None:
        """What the pool of a volume that has no backing is called by now."""
        pool = self._pool_of(volume)
        if pool is None or not state.is_promised(volume):
            return None
        found = pool_names.resolve(pool, self._inventory(), self._settings)
        return found.name if found else None

    def _tell_host(self, volume: Any, pool: str) -> None:
        """Make the pool in the volume's host the one that holds its disk.

        For the operation that has moved it, which the record waits for.
        """
        before = volume['host']
        values = records.on_pool(volume, pool)
        if before == values['host']:
            return
        volume.update(values)
        volume.save()
        _log_move(volume, before)

    def _follow_disk(self, volume: Any, backing: Any) -> None:
        """After a move: name the datastore that now holds the disk."""
        if self._reader is None or not self._settings.datastore_pools:
            return
        moref = vim_util.get_moref_value(
            self.volumeops.get_datastore(backing))
        pool = pool_names.by_datastore(self._reader.read(),
                                       self._settings).get(moref)
        if pool is not None:
            self._tell_host(volume, pool)

    # -- Placement ----------------------------------------------------------

    def _inventory(self) -> model.Inventory:
        """The inventory as it is now; worth waiting for, unlike statistics."""
        return self._session.invoke_api(self._reader, 'read')

    @contextlib.contextmanager
    def selecting(self, pool: str | None,
                  specs: Callable[[], dict[str, str]],
                  excluded: tuple[str, ...] = ()) -> Iterator[None]:
        """Have every selection in this block honour a pool and a type.

        :param excluded: datastores (moref values) that it must not take
        """
        token = _INTENT.set(_Intent(pool, specs, excluded))
        try:
            yield
        finally:
            _INTENT.reset(token)

    def _select_ds_for_volume(self, volume: Any, host: Any = None,
                              create_params: Any = None) -> Any:
        moving = bool(create_params
                      and vmdk.CREATE_PARAM_DISK_SIZE in create_params)
        pool = None if moving else self._pool_of(volume)
        with self.selecting(pool, lambda: self._volume_specs(volume)):
            return super()._select_ds_for_volume(volume, host, create_params)

    def _select_datastore(self, req: dict[str, Any], host: Any = None) -> Any:
        intent = _INTENT.get()
        if intent is not None and self._reader is not None:
            req = req | {selector.THIN: extra_specs.is_thin(intent.specs())}
            if intent.excluded:
                req[self.ds_sel.HARD_ANTI_AFFINITY_DS] = list(intent.excluded)
            if intent.pool is not None:
                # None, too, where the pool is any datastore.
                req[selector.PINNED_DATASTORES] = self._pinned(intent.pool)
        return super()._select_datastore(req, host)

    def _pool_of(self, volume: Any) -> str | None:
        """The pool that the scheduler chose; None where it chose none."""
        if not self._settings.datastore_pools:
            return None
        return volume_utils.extract_host(field(volume, 'host') or '', 'pool')

    @staticmethod
    def _datastore_ref(moref: str) -> Any:
        return vim_util.get_moref(moref, 'Datastore')

    def _get_storage_profile_id(self, volume: Any) -> str | None:
        """Id of the volume type's storage policy, from the cache."""
        if self._directory is None:
            return super()._get_storage_profile_id(volume)
        name = self._get_storage_profile(volume)
        found = self._directory.policy_id(name) if name else None
        return found.uniqueId if found is not None else None

    def _pinned(self, pool: str) -> frozenset[str] | None:
        """The datastores of a pool; None: any.

        :raises UnknownPool: it stands for none
        """
        seen = self._inventory()
        found = pool_names.resolve(pool, seen, self._settings)
        if found is None:
            if pool == self._settings.backend_name:
                return None  # the single pool that upstream's driver reports
            known = {each.name: 'there'
                     for each in pool_names.listed(seen, self._settings)}
            refused = pool_stats.ineligible_names(seen, self._settings)
            raise exceptions.UnknownPool(pool, known | refused)
        return frozenset(each.moref for each in found.datastores)

    # -- Volume types -------------------------------------------------------

    def _check_specs(self, specs: Callable[[], dict[str, str]]) -> None:
        if self._directory is not None:
            extra_specs.check(specs(), self._directory.names)

    def _volume_specs(self, volume: Any) -> dict[str, str]:
        return self._specs(field(volume, 'volume_type_id'))

    def _specs(self, type_id: str | None) -> dict[str, str]:
        if not type_id:
            return {}
        return volume_types.get_volume_type_extra_specs(type_id) or {}


def _log_move(volume: Any, before: str) -> None:
    LOG.info('Volume %(volume)s: its host was %(before)s and is %(host)s.',
             {'volume': volume['id'], 'before': before,
              'host': volume['host']})


def field(volume: Any, name: str) -> Any:
    """A field of a volume object, or of what stands for one in a test."""
    try:
        return volume[name]
    except KeyError:
        return None


def _make_client(configuration: Any, cookie: Any = None) -> soap.Client:
    return soap.Client(
        configuration.vmware_host_ip, configuration.vmware_host_port,
        ca_file=configuration.vmware_ca_file,
        insecure=configuration.vmware_insecure, cookie=cookie,
        pool_size=configuration.vmware_connection_pool_size,
        cooperative_yield=concurrency.cooperative_yield)


def newest_pbm_version(version: str) -> str | None:
    """The newest vCenter version up to ``version`` with a WSDL for PBM."""
    folder = os.path.join(os.path.dirname(pbm.__file__), 'wsdl')
    served = [name for name in os.listdir(folder)
              if versionutils.is_compatible(name, version, same_major=False)]
    return max(served, key=versionutils.convert_version_to_int, default=None)
