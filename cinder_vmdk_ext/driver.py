# SPDX-License-Identifier: Apache-2.0
"""The Cinder volume driver: upstream's, with one pool per datastore.

The driver is a facade. Each hook of Cinder, and each seam through which
upstream's driver calls back, calls a part of the
:class:`cinder_vmdk_ext.backend.Backend`. ``@hook`` declares the checks,
locks, reads and claims of a hook.
"""

import functools
import os
from typing import Any
from typing import NoReturn

from oslo_log import log as logging
from oslo_utils import versionutils
from oslo_vmware import pbm

from cinder import interface
from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions
from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import backend
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import hooks
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import refusals
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import qos_specs

LOG = logging.getLogger(__name__)


@interface.volumedriver
class VmdkExtDriver(vmdk.VMwareVcVmdkDriver):
    """VMDK volumes in vCenter, one scheduler pool per datastore.

    Several cinder-volume services of one cluster may serve one backend. They
    share state only in Cinder's database and in the vCenter, and Cinder's
    coordination locks protect it.

    .. code-block:: default

      0.1.0 - one pool per datastore, placement on the scheduler's pool
    """

    VERSION = '0.1.0'
    SUPPORTS_ACTIVE_ACTIVE = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(config.vmdk_ext_opts)
        self.backend = backend.Backend(self)
        # Why the driver does not start, as it was last written to the log.
        self._refused = ''

    # -- Setting up ---------------------------------------------------------

    @staticmethod
    def get_driver_options() -> list[Any]:
        """Upstream's options and the plugin's."""
        return vmdk.VMwareVcVmdkDriver.get_driver_options() + list(
            config.vmdk_ext_opts)

    def do_setup(self, context: Any) -> None:
        """Log in and prepare to serve (Cinder hook; may run again).

        :raises InvalidSettings: an option is missing or wrong
        """
        try:
            super().do_setup(context)
            self.backend.check_policies()
        except vmdk_exceptions.ClusterNotFoundException as error:
            unknown = self.backend.unknown_cluster(error.kwargs['cluster'])
            self.backend.end_session()
            self._refuse(unknown)
        except exceptions.InvalidSettings as error:
            self.backend.end_session()
            self._refuse(error)
        except Exception as error:
            # Cinder drops this object, or calls do_setup again: a new login.
            self.backend.end_session()
            self._log_once(error)
            raise

    def _refuse(self, error: exceptions.InvalidSettings) -> NoReturn:
        """Raise it without its traceback, which Cinder would log each time."""
        self._log_once(error)
        raise error.with_traceback(None) from None

    def _log_once(self, error: Exception) -> None:
        sentence = refusals.sentence(error)
        if sentence != self._refused:
            self._refused = sentence
            LOG.error('The backend does not start: %s', sentence)

    def set_initialized(self) -> None:
        """Begin to serve (Cinder hook)."""
        super().set_initialized()
        self.backend.promised.start()
        self.backend.backups.resume(self.put_restored,
                                    self.delete_volume)
        self.backend.broken_off.resume()
        self.backend.reconciler.start(
            self.configuration.vmdk_ext_reconcile_interval)
        self.backend.endpoint.start(
            self.configuration.vmdk_ext_status_port)

    def _validate_params(self) -> None:
        self.backend.read_settings(self.get_driver_options())

    def _create_session(self) -> Any:
        return self.backend.connect()

    @property
    def volumeops(self) -> Any:
        """The plugin's operations, even if upstream created its own."""
        return self.backend.volumeops or self._volumeops

    @property
    def ds_sel(self) -> Any:
        """The plugin's selector, even if upstream created its own."""
        return self.backend.ds_sel or self._ds_sel

    def _get_vc_version(self) -> str:
        """The vCenter's version, or the newest that oslo.vmware knows.

        Upstream looks for the WSDL of the storage policy service (PBM) of
        this version, and fails if oslo.vmware does not contain it. The WSDL
        itself is not read, so that of any version is good enough.
        """
        version = super()._get_vc_version()
        if not version or pbm.get_pbm_wsdl_location(version):
            return version
        return newest_pbm_version(version) or version

    # -- Statistics and pools -----------------------------------------------

    def _update_volume_stats(self) -> None:
        """Set statistics with one pool per datastore (get_volume_stats).

        Changes nothing else, and makes no call while the inventory is
        current. ``vmware_enable_volume_stats`` has no effect: the figures are
        always the vCenter's own.
        """
        if self.backend.reporter is None:
            super()._update_volume_stats()
            return
        self.backend.backups.sweep_at_times()
        self._stats = {
            'volume_backend_name': self.backend.settings.backend_name,
            'vendor_name': 'VMware',
            'driver_version': self.VERSION,
            'storage_protocol': 'vmdk',
            'location_info': self.backend.location_info(),
            'shared_targets': False,
            'multiattach': False,
            'online_extend_support': True,
            # Migrations copy to files that are holes at first.
            'sparse_copy_volume': True,
            'clone_across_pools': True,
            'volumes_at_risk': len(self.backend.reconciler.at_risk),
            'filter_function': self.get_filter_function(),
            'goodness_function': self.get_goodness_function(),
        } | self.backend.reporter.report()

    def _init_vendor_properties(self) -> tuple[dict[str, Any], str]:
        """The extra specs of volume types (cinder get-capabilities)."""
        properties: dict[str, Any] = {}
        for spec, known in extra_specs.described().items():
            title = spec.partition(':')[2].replace('_', ' ').capitalize()
            more: dict[str, Any] = {}
            if known.values:
                more['enum'] = list(known.values)
            if known.default:
                more['default'] = known.default
            self._set_property(properties, spec, title, known.meaning,
                               'string', **more)
        self._set_property(
            properties, 'vmware:qos_specs', 'Quality of service',
            'Keys of QoS specs with the consumer back-end or both; not an '
            'extra spec', 'string', enum=list(qos_specs.KEYS))
        return properties, 'vmware'

    def get_pool(self, volume: Any) -> str | None:
        """The pool of a volume whose host names none (Cinder hook)."""
        return self.backend.reconciler.locate(volume)

    @hooks.hook()
    def update_provider_info(self, volumes: Any,
                             snapshots: Any) -> tuple[None, None]:
        """Correct volumes' hosts when the service starts (Cinder hook).

        :returns: nothing for Cinder to write: Cinder would overwrite changes
            made since it read its records
        """
        self.backend.reconciler.correct_at_start(volumes)
        return None, None

    # -- Creating -----------------------------------------------------------

    @hooks.hook(places=True, makes=True, message=refusals.MAKE_EMPTY)
    def create_volume(self, volume: Any) -> dict[str, Any]:
        """Create a volume, or only promise its space (Cinder hook)."""
        if volume.get('migration_status'):
            self.backend.migration.destination.check_new(volume)
        return self.backend.create.create(volume)

    @hooks.hook(locks_on=('snapshot',), places=True, makes=True,
                reads=(hooks.HARDWARE, hooks.OPTIONS, 'snapshot',
                       'datastore'), message=refusals.MAKE)
    def create_volume_from_snapshot(self, volume: Any,
                                    snapshot: Any) -> dict[str, Any]:
        """Create a volume with a snapshot's content (Cinder hook)."""
        return self.backend.clone.from_snapshot(volume, snapshot)

    @hooks.hook(locks_on=('src_vref',), places=True, makes=True,
                reads=(hooks.HARDWARE, hooks.OPTIONS, 'datastore'),
                message=refusals.MAKE)
    def create_cloned_volume(self, volume: Any,
                             src_vref: Any) -> dict[str, Any]:
        """Create a volume with another's content (Cinder hook)."""
        return self.backend.clone.from_volume(volume, src_vref)

    def _get_extra_config(self, volume: Any) -> dict[str, str]:
        deployment = self.backend.deployment()
        own = {shadow.DEPLOYMENT: deployment} if deployment else {}
        return super()._get_extra_config(volume) | own

    def _create_backing(self, volume: Any, host: Any = None,
                        create_params: Any = None) -> Any:
        return self.backend.create.create_backing(volume, host, create_params)

    # -- Placement ----------------------------------------------------------

    def _select_ds_for_volume(self, volume: Any, host: Any = None,
                              create_params: Any = None) -> Any:
        return self.backend.selection.select_for_volume(volume, host,
                                                        create_params)

    def _select_datastore(self, req: dict[str, Any], host: Any = None) -> Any:
        return self.backend.selection.select(req, host)

    def _get_storage_profile_id(self, volume: Any) -> str | None:
        return self.backend.selection.storage_profile_id(volume)

    # -- Images -------------------------------------------------------------

    @hooks.hook(places=True, makes=True, message=refusals.FROM_IMAGE)
    def clone_image(self, context: Any, volume: Any, image_location: Any,
                    image_meta: Any, image_service: Any) -> Any:
        """Create a volume directly from an image (Cinder hook)."""
        return self.backend.images.clone_image(
            context, volume, image_location, image_meta, image_service)

    @hooks.hook(locks_on=('volume',), places=True, makes=True, keeps=True,
                message=refusals.COPY_IMAGE)
    def copy_image_to_volume(self, context: Any, volume: Any,
                             image_service: Any, image_id: str,
                             disable_sparse: bool = False) -> None:
        """Write an image to a volume (Cinder hook)."""
        self.backend.migration.source.check_settled(volume)
        self.backend.images.copy_to_volume(context, volume, image_service,
                                           image_id, disable_sparse)

    @hooks.hook(locks_on=('volume',), places=True, message=refusals.TO_IMAGE)
    def copy_volume_to_image(self, context: Any, volume: Any,
                             image_service: Any, image_meta: Any) -> None:
        """Upload a volume as an image (Cinder hook)."""
        self.backend.images.copy_to_image(context, volume, image_service,
                                          image_meta)

    def _get_temp_image_folder(self, image_size_in_bytes: int) -> Any:
        return self.backend.images.temp_image_folder(image_size_in_bytes)

    def _get_ds_name_folder_path(self, backing: Any) -> tuple[str, str]:
        return self.backend.images.place_of(backing)

    def _copy_image(self, context: Any, dc_ref: Any, image_service: Any,
                    image_id: str, image_size_in_bytes: int, ds_name: str,
                    upload_file_path: str) -> None:
        self.backend.images.copy_image(
            context, dc_ref, image_service, image_id, image_size_in_bytes,
            ds_name, upload_file_path)

    def _fetch_stream_optimized_image(
            self, context: Any, volume: Any, image_service: Any,
            image_id: str, image_size: int, adapter_type: str) -> None:
        self.backend.images.fetch_stream_optimized(
            context, volume, image_service, image_id, image_size,
            adapter_type)

    # -- Attaching ----------------------------------------------------------

    @hooks.hook(places=True,
                reads=(hooks.FIRST_DISK, 'datastore', 'runtime.host'),
                message=refusals.ATTACH)
    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        """Return the connection info for an attachment (Cinder hook)."""
        if self.backend.migration.serves(volume, connector):
            return self.backend.migration.connect(volume, connector,
                                                  self.put_migrated)
        if self.backend.backups.serves(connector):
            return self.backend.backups.connect(
                volume, connector, self.backend.migration.source
                .check_settled)
        self.backend.backups.check_settled(volume)
        self.backend.migration.source.check_settled(volume)
        found = self.backend.attach.initialize_connection(volume, connector)
        self.backend.reconciler.expect(volume, connector)
        return found

    @hooks.hook(message=refusals.DETACH)
    def terminate_connection(self, volume: Any, connector: Any,
                             **kwargs: Any) -> None:
        """End an attachment, a backup or a restore (Cinder hook)."""
        if self.backend.migration.serves(volume, connector):
            self.backend.migration.disconnect(volume)
        elif self.backend.backups.serves(connector):
            self.backend.backups.disconnect(volume, connector,
                                            self.put_restored)
        else:
            self.settle_detached(volume, connector)

    @hooks.hook(locks_on=('volume',), places=True, is_part=True)
    def settle_detached(self, volume: Any, connector: Any) -> None:
        """Settle a volume after its last detachment.

        Its disk goes back to its shadow VM's folder.
        """
        self.backend.attach.terminate_connection(volume, connector)
        self.backend.reconciler.after_detach(volume)

    @hooks.hook()
    def validate_connector(self, connector: Any) -> None:
        """Refuse a connector that cannot be served (Cinder hook)."""
        if self.backend.backups.serves(connector):
            self.backend.backups.check(connector)
        else:
            self.backend.attach.validate_connector(connector)

    def _relocate_backing(self, volume: Any, backing: Any,
                          host: Any) -> None:
        self.backend.attach.relocate_backing(volume, backing, host)

    def _get_connection_info(self, volume: Any, backing: Any,
                             connector: Any) -> dict[str, Any]:
        return self.backend.attach.connection_info(volume, backing, connector)

    # -- Backups ------------------------------------------------------------

    @hooks.hook()
    def get_backup_device(self, context: Any, backup: Any) -> Any:
        """Copy a volume to a file for cinder-backup (Cinder hook).

        :returns: the volume, or a temporary copy of an attached volume or of
            a snapshot; and False: it is no snapshot
        """
        return self.backend.backups.export(context, backup, functools.partial(
            super().get_backup_device, context, backup))

    def backup_use_temp_snapshot(self) -> bool:
        """Whether Cinder backs a temporary snapshot up: no (Cinder hook).

        A temporary copy is backed up: vSphere exports the disks of VMs, and
        the snapshot of an attached volume may be one.
        """
        return False

    @hooks.hook(locks_on=('volume',), places=True, message=refusals.RESTORE)
    def put_restored(self, volume: Any) -> None:
        """Make what cinder-backup has restored the volume's content."""
        self.backend.backups.put(volume)

    # -- Changing -----------------------------------------------------------

    @hooks.hook(locks_on=('volume',), places=True,
                reads=(hooks.HARDWARE, 'snapshot'))
    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Extend a volume to a size in GiB (Cinder hook)."""
        self.backend.migration.source.check_settled(volume)
        self.backend.extend.extend(volume, new_size)

    @hooks.hook(locks_on=('volume',), places=True,
                reads=(hooks.HARDWARE, 'snapshot', 'datastore'),
                message=refusals.RETYPE)
    def retype(self, ctxt: Any, volume: Any, new_type: Any, diff: Any,
               host: Any) -> Any:
        """Change a volume's type, and perhaps its pool (Cinder hook)."""
        return self.backend.retype.retype(volume, new_type, diff, host)

    @hooks.hook(locks_on=('volume',), places=True,
                reads=(hooks.HARDWARE, 'datastore'))
    def migrate_volume(self, context: Any, volume: Any, host: Any
                       ) -> tuple[bool, dict[str, Any] | None]:
        """Move a volume to another pool of this vCenter (Cinder hook)."""
        return self.backend.migrate.migrate(volume, host)

    @hooks.hook(message=refusals.MIGRATE)
    def before_volume_copy(self, context: Any, volume: Any, new_volume: Any,
                           remote: Any = None) -> None:
        """Note that Cinder copies a volume to another backend (hook)."""
        self.backend.broken_off.sweep()
        self.backend.migration.source.begin(context, volume, new_volume)

    @hooks.hook(message=refusals.MIGRATE)
    def after_volume_copy(self, context: Any, volume: Any, new_volume: Any,
                          remote: Any = None) -> None:
        """Wait until the other backend has imported the copy (hook)."""
        self.backend.migration.source.finish(context, volume, new_volume)

    @hooks.hook(locks_on=('volume',), places=True)
    def put_migrated(self, volume: Any) -> None:
        """Make what was copied from another backend the volume's content."""
        self.backend.migration.destination.put(volume)

    @hooks.hook(locks_on=('volume', 'new_volume'), message=refusals.MIGRATE)
    def update_migrated_volume(self, ctxt: Any, volume: Any, new_volume: Any,
                               original_volume_status: str
                               ) -> dict[str, Any]:
        """Finish a generic migration: the copy becomes the volume (hook)."""
        self.backend.migration.destination.check_imported(new_volume)
        return self.backend.migrate.update_migrated(volume, new_volume,
                                                    original_volume_status)

    @hooks.hook(locks_on=('volume',))
    def accept_transfer(self, context: Any, volume: Any, new_user: str,
                        new_project: str) -> None:
        """Move a volume to its new project's folder (Cinder hook)."""
        self.backend.migration.source.check_settled(volume)
        self.backend.transfer.accept(context, volume, new_user, new_project)

    @hooks.hook(locks_on=('volume',), reads=(hooks.FIRST_DISK,))
    def delete_volume(self, volume: Any) -> None:
        """Delete a volume; may be repeated (Cinder hook)."""
        self.backend.delete.delete(volume)

    @classmethod
    def clean_volume_file_locks(cls, volume_id: str) -> None:
        """Remove a deleted volume's lock from disk (Cinder hook)."""
        locks.forget_volume(volume_id)

    # -- Snapshots ----------------------------------------------------------

    @hooks.hook(locks_on=('snapshot',), places=True,
                reads=(hooks.HARDWARE, hooks.OPTIONS, 'snapshot',
                       'datastore'))
    def create_snapshot(self, snapshot: Any) -> dict[str, Any]:
        """Take a snapshot (Cinder hook)."""
        self.backend.migration.source.check_settled(snapshot['volume'])
        return self.backend.snapshots.create(snapshot)

    @hooks.hook(locks_on=('snapshot',), reads=(hooks.FIRST_DISK, 'snapshot'))
    def delete_snapshot(self, snapshot: Any) -> None:
        """Delete a snapshot; may be repeated (Cinder hook)."""
        self.backend.snapshots.delete(snapshot)

    @hooks.hook(locks_on=('volume',), places=True,
                reads=(hooks.HARDWARE, 'snapshot'))
    def revert_to_snapshot(self, context: Any, volume: Any,
                           snapshot: Any) -> None:
        """Revert a volume to a snapshot's content (Cinder hook)."""
        self.backend.snapshots.revert(volume, snapshot)
        self.backend.limits.note(volume)

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """Whether Cinder must take a snapshot before a revert: no (hook).

        The volume keeps its content until the revert is complete.
        """
        return False

    # -- Groups -------------------------------------------------------------

    def create_group(self, context: Any, group: Any) -> dict[str, Any]:
        """Create nothing: groups exist only in Cinder (Cinder hook)."""
        return {'status': 'available'}

    def update_group(self, context: Any, group: Any, add_volumes: Any = None,
                     remove_volumes: Any = None) -> tuple[None, None, None]:
        """Change nothing: groups exist only in Cinder (Cinder hook)."""
        return None, None, None

    @hooks.hook()
    def delete_group(self, context: Any, group: Any, volumes: Any) -> Any:
        """Delete the volumes of a group (Cinder hook)."""
        return self.backend.groups.delete(context, group, volumes)

    @hooks.hook()
    def create_group_snapshot(self, context: Any, group_snapshot: Any,
                              snapshots: Any) -> Any:
        """Take a snapshot of each volume of a group (Cinder hook)."""
        return self.backend.groups.create_snapshots(context, group_snapshot,
                                                    snapshots)

    @hooks.hook()
    def delete_group_snapshot(self, context: Any, group_snapshot: Any,
                              snapshots: Any) -> Any:
        """Delete the snapshots of a group snapshot (Cinder hook)."""
        return self.backend.groups.delete_snapshots(context, group_snapshot,
                                                    snapshots)

    @hooks.hook()
    def create_group_from_src(self, context: Any, group: Any, volumes: Any,
                              group_snapshot: Any = None,
                              snapshots: Any = None, source_group: Any = None,
                              source_vols: Any = None) -> Any:
        """Create a group's volumes from those of another (Cinder hook)."""
        return self.backend.groups.create_from_source(
            context, group, volumes, snapshots, source_vols)

    # -- Managing existing disks and snapshots ------------------------------

    @hooks.hook()
    def get_manageable_volumes(self, cinder_volumes: Any, marker: Any,
                               limit: int, offset: int, sort_keys: list[str],
                               sort_dirs: list[str]) -> list[dict[str, Any]]:
        """List disks that can be managed, or why not (Cinder hook)."""
        return self.backend.manage.list_manageable(
            cinder_volumes, marker, limit, offset, sort_keys, sort_dirs)

    @hooks.hook(message=refusals.MANAGE)
    def manage_existing_get_size(self, volume: Any,
                                 existing_ref: dict[str, str]) -> int:
        """Size of a disk to manage, in GiB, rounded up (Cinder hook)."""
        return self.backend.manage.get_size(existing_ref)

    @hooks.hook(places=True, makes=True, keeps=True,
                message=refusals.MANAGE)
    def manage_existing(self, volume: Any, existing_ref: dict[str, str]
                        ) -> dict[str, Any]:
        """Make an existing disk the volume's disk (Cinder hook)."""
        return self.backend.manage.manage(volume, existing_ref)

    @hooks.hook(locks_on=('volume',), places=True,
                message=refusals.UNMANAGE)
    def unmanage(self, volume: Any) -> None:
        """Leave the shadow VM to the administrator (Cinder hook)."""
        self.backend.manage.unmanage(volume)

    @hooks.hook()
    def get_manageable_snapshots(self, cinder_snapshots: Any, marker: Any,
                                 limit: int, offset: int,
                                 sort_keys: list[str], sort_dirs: list[str]
                                 ) -> list[dict[str, Any]]:
        """List snapshots that can be managed, or why not (Cinder hook)."""
        return self.backend.manage_snapshots.list_manageable(
            cinder_snapshots, marker, limit, offset, sort_keys, sort_dirs)

    @hooks.hook(message=refusals.MANAGE_SNAPSHOT)
    def manage_existing_snapshot_get_size(self, snapshot: Any,
                                          existing_ref: dict[str, str]) -> int:
        """Size of a snapshot's disk, in GiB, rounded up (Cinder hook)."""
        return self.backend.manage_snapshots.get_size(snapshot, existing_ref)

    @hooks.hook(message=refusals.MANAGE_SNAPSHOT)
    def manage_existing_snapshot(self, snapshot: Any,
                                 existing_ref: dict[str, str]
                                 ) -> dict[str, Any]:
        """Rename an existing snapshot as Cinder's (Cinder hook)."""
        return self.backend.manage_snapshots.manage(snapshot, existing_ref)

    @hooks.hook(locks_on=('snapshot',), places=True)
    def unmanage_snapshot(self, snapshot: Any) -> None:
        """Leave a snapshot to the administrator (Cinder hook)."""
        self.backend.snapshots.unmanage(snapshot)


def newest_pbm_version(version: str) -> str | None:
    """The newest vCenter version up to ``version`` with a WSDL for PBM."""
    folder = os.path.join(os.path.dirname(pbm.__file__), 'wsdl')
    served = [name for name in os.listdir(folder)
              if versionutils.is_compatible(name, version, same_major=False)]
    return max(served, key=versionutils.convert_version_to_int, default=None)
