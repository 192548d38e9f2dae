# SPDX-License-Identifier: Apache-2.0
"""The port to upstream's driver: all calls of its private methods.

Only this module and :mod:`cinder_vmdk_ext.driver` call private methods of
upstream's driver and of its collaborators, so that the record of seams
(``tests/contract/seams.py``) has to look here only. A method of
:class:`Upstream` calls the driver's method of the same name (plus an
underscore), with the plugin's override if there is one. A method of
:class:`Original` calls upstream's own, without the override.
"""

from typing import Any


from cinder.volume.drivers.vmware import datastore
from cinder.volume.drivers.vmware import vmdk
from cinder.volume.drivers.vmware import volumeops

# Bound at import, because tests replace upstream's class by a subclass.
_ORIGINAL = vmdk.VMwareVcVmdkDriver

#: Key of extra configuration that sets a VM's instance UUID.
BACKING_UUID_KEY = volumeops.BACKING_UUID_KEY
#: Key of extra configuration that holds the id of a VM's volume.
VOLUME_ID_KEY = vmdk.EXTRA_CONFIG_VOLUME_ID_KEY
EXTENSION_KEY = vmdk.EXTENSION_KEY
EXTENSION_TYPE = vmdk.EXTENSION_TYPE
LINKED_CLONE_TYPE = volumeops.LINKED_CLONE_TYPE
STREAM_OPTIMIZED = vmdk.ImageDiskType.STREAM_OPTIMIZED
#: Key of a request: datastores (morefs) that must not be selected.
EXCLUDED_DATASTORES = datastore.DatastoreSelector.HARD_ANTI_AFFINITY_DS
CREATE_PARAM_DISK_SIZE = vmdk.CREATE_PARAM_DISK_SIZE
CREATE_PARAM_BACKING_NAME = vmdk.CREATE_PARAM_BACKING_NAME
CREATE_PARAM_TEMP_BACKING = vmdk.CREATE_PARAM_TEMP_BACKING


class Original:
    """Upstream's own methods, without the driver's overrides."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def create_backing(self, volume: Any, host: Any,
                       create_params: Any) -> Any:
        """Select a datastore, and create a shadow VM with a disk on it."""
        return _ORIGINAL._create_backing(self._driver, volume, host,
                                         create_params)

    def select_datastore(self, req: dict[str, Any], host: Any) -> Any:
        """Host, resource pool and summary of a datastore for a disk."""
        return _ORIGINAL._select_datastore(self._driver, req, host)

    def storage_profile_id(self, volume: Any) -> str | None:
        """Id of the storage policy of a volume's type."""
        return _ORIGINAL._get_storage_profile_id(self._driver, volume)

    def copy_image_to_volume(self, context: Any, volume: Any,
                             image_service: Any, image_id: str,
                             disable_sparse: bool) -> None:
        """Create a volume's disk from a VMDK image, by its disk type."""
        _ORIGINAL.copy_image_to_volume(self._driver, context, volume,
                                       image_service, image_id,
                                       disable_sparse)

    def clone_image(self, context: Any, volume: Any, image_location: Any,
                    image_meta: Any, image_service: Any) -> Any:
        """Create a volume's disk directly from an image.

        :returns: the model update, and whether it was done (Cinder hook)
        """
        return _ORIGINAL.clone_image(self._driver, context, volume,
                                     image_location, image_meta,
                                     image_service)

    def temp_image_folder(self, image_size_in_bytes: int) -> Any:
        """Datacenter, datastore and folder for an image's bytes."""
        return _ORIGINAL._get_temp_image_folder(self._driver,
                                                image_size_in_bytes)

    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        """Connection info; creates or relocates the backing first."""
        return _ORIGINAL.initialize_connection(self._driver, volume,
                                               connector)

    def relocate_backing(self, volume: Any, backing: Any, host: Any) -> None:
        """Move a backing to where a host can use it."""
        _ORIGINAL._relocate_backing(self._driver, volume, backing, host)

    def connection_info(self, volume: Any, backing: Any,
                        connector: Any) -> dict[str, Any]:
        """The data that Nova or os-brick needs to attach a volume."""
        return _ORIGINAL._get_connection_info(self._driver, volume, backing,
                                              connector)

    def validate_connector(self, connector: Any) -> None:
        """Refuse a connector without the properties that attaching needs."""
        _ORIGINAL.validate_connector(self._driver, connector)

    def accept_transfer(self, context: Any, volume: Any, new_user: str,
                        new_project: str) -> None:
        """Move a backing to the folder of its new project."""
        _ORIGINAL.accept_transfer(self._driver, context, volume, new_user,
                                  new_project)


class Upstream:
    """Upstream's driver, with the plugin's overrides."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.original = Original(driver)

    def statistics(self) -> dict[str, Any]:
        """The report for the scheduler, made anew (get_volume_stats)."""
        stats: dict[str, Any] = self._driver.get_volume_stats(refresh=True)
        return stats

    # -- Attributes of the driver -------------------------------------------

    @property
    def configuration(self) -> Any:
        """The backend's section of cinder.conf."""
        return self._driver.configuration

    @property
    def session(self) -> Any:
        """The session with the vCenter."""
        return self._driver.session

    @property
    def session_if_any(self) -> Any:
        """The session of an earlier setup; None: there was none."""
        return self._driver._session

    @property
    def volumeops(self) -> Any:
        """The operations on shadow VMs."""
        return self._driver.volumeops

    @property
    def ds_sel(self) -> Any:
        """The selector of datastores."""
        return self._driver.ds_sel

    # -- Creating and placing -----------------------------------------------

    def create_backing(self, volume: Any) -> Any:
        """Create a volume's shadow VM."""
        return self._driver._create_backing(volume)

    def verify_volume_creation(self, volume: Any) -> None:
        """Check a volume's type without creating anything."""
        self._driver._verify_volume_creation(volume)

    def select_ds_for_volume(self, volume: Any) -> Any:
        """Host, resource pool, folder and summary for a volume."""
        return self._driver._select_ds_for_volume(volume)

    def select_datastore(self, req: dict[str, Any], host: Any = None) -> Any:
        """Host, resource pool and summary of a datastore for a disk."""
        return self._driver._select_datastore(req, host)

    def select_datastore_for(self, size_bytes: int, policy: str | None,
                             host: Any = None) -> Any:
        """As :meth:`select_datastore`, for a size and a storage policy."""
        return self._driver._select_datastore({
            datastore.DatastoreSelector.SIZE_BYTES: size_bytes,
            datastore.DatastoreSelector.PROFILE_NAME: policy}, host)

    def select_datastore_of(self, volume: Any, size_bytes: int,
                            host: Any = None) -> Any:
        """As :meth:`select_datastore`, with the policy of a volume's type."""
        return self._driver._select_datastore({
            datastore.DatastoreSelector.SIZE_BYTES: size_bytes,
            datastore.DatastoreSelector.PROFILE_NAME:
                self._driver._get_storage_profile(volume)}, host)

    def extend_backing(self, backing: Any, size_gib: int,
                       disk_type: str) -> None:
        """Extend a detached disk to a size in GiB (ExtendVirtualDisk_Task)."""
        self._driver._extend_backing(backing, size_gib, disk_type)

    # -- Objects of the inventory -------------------------------------------

    def datacenter_of(self, resource_pool: Any) -> Any:
        """The datacenter of a resource pool."""
        return self._driver._get_dc(resource_pool)

    def volume_folder(self, datacenter: Any, project_id: str,
                      snapshot: bool = False) -> Any:
        """A project's VM folder for volumes, or for snapshots."""
        if not snapshot:
            return self._driver._get_volume_group_folder(datacenter,
                                                         project_id)
        return self._driver._get_volume_group_folder(datacenter, project_id,
                                                     snapshot=True)

    def cluster_names(self) -> list[str]:
        """The names of the vCenter's clusters."""
        return sorted(self.volumeops._get_all_clusters())

    # -- Specs of a volume's type -------------------------------------------

    def disk_type(self, volume: Any) -> str:
        """The disk type: ``thin``, ``thick`` or ``eagerZeroedThick``."""
        return self._driver._get_disk_type(volume)

    def adapter_type(self, volume: Any) -> str:
        """The adapter of a volume's disk."""
        return self._driver._get_adapter_type(volume)

    def storage_profile(self, volume: Any) -> str | None:
        """The name of a volume's storage policy; None: it has none."""
        return self._driver._get_storage_profile(volume)

    def storage_profile_id(self, volume: Any) -> str | None:
        """The id of a volume's storage policy; None: it has none."""
        return self._driver._get_storage_profile_id(volume)

    def clone_type(self, volume: Any) -> str:
        """The clone type: ``full`` or ``linked``."""
        return self._driver._get_clone_type(volume)

    def disk_type_of(self, type_id: str | None) -> str:
        """As :meth:`disk_type`, of a volume type."""
        return self._driver._get_extra_spec_disk_type(type_id)

    def adapter_type_of(self, type_id: str | None) -> str:
        """As :meth:`adapter_type`, of a volume type."""
        return self._driver._get_extra_spec_adapter_type(type_id)

    def storage_profile_of(self, type_id: str | None) -> str | None:
        """As :meth:`storage_profile`, of a volume type."""
        return self._driver._get_extra_spec_storage_profile(type_id)

    def is_converted(self, image_disk_type: str, disk_type: str) -> bool:
        """Whether an image's disk must be cloned to get a disk type."""
        return bool(self._driver._check_disk_conversion(image_disk_type,
                                                        disk_type))

    # -- Facts of a volume --------------------------------------------------

    def extra_config(self, volume: Any) -> dict[str, str]:
        """The extra configuration that marks a VM as this volume's VM."""
        return self._driver._get_extra_config(volume)

    def in_use(self, volume: Any) -> bool:
        """Whether a volume is attached."""
        return bool(self._driver._in_use(volume))

    def volume_device_uuid(self, instance: Any, volume_id: str) -> str | None:
        """UUID of a volume's disk, as Nova wrote it on the instance."""
        return self._driver._get_volume_device_uuid(instance, volume_id)
