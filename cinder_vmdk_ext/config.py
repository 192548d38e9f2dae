# SPDX-License-Identifier: Apache-2.0
"""Defines the plugin's options, and reads them from a backend's section.

They are in the same section of cinder.conf as upstream's ``vmware_*``
options, which all keep their meaning.
"""

import functools
import math
import os
import re
from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from cinder import context
from cinder import exception
from cinder.volume import volume_types
from cinder.volume import volume_utils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext import names

vmdk_ext_opts = [
    cfg.BoolOpt(
        'vmdk_ext_datastore_pools',
        default=True,
        help='Report every datastore as a scheduler pool of its own, and '
             'create each volume on the datastore of the pool that the '
             'scheduler chose. If false, the backend is a single pool, and '
             'the driver chooses the datastore, as the upstream driver does.'),
    cfg.BoolOpt(
        'vmdk_ext_storage_pods',
        default=False,
        help='Report a datastore cluster (StoragePod) whose Storage DRS is '
             'on and fully automated as one scheduler pool, in place of a '
             'pool for each of its datastores, because Storage DRS moves '
             'disks among them. The free capacity of such a pool is that of '
             'the datastore with the most free space, because a disk lies on '
             'one datastore. Each datastore of any other cluster is a pool of '
             'its own. This option has no effect if vmdk_ext_datastore_pools '
             'is false.'),
    cfg.FloatOpt(
        'vmdk_ext_min_free_gib',
        default=0.0,
        min=0.0,
        help='Free space in GiB below which a datastore takes no more '
             'volumes. It stays listed as a pool, with zero free capacity '
             'and the reason. The larger of this and '
             'vmdk_ext_min_free_percent applies.'),
    cfg.FloatOpt(
        'vmdk_ext_min_free_percent',
        default=2.0,
        min=0.0,
        max=100.0,
        help='Free space in percent of the capacity below which a datastore '
             'takes no more volumes. Thin disks grow after they are created: '
             'the limit leaves them space to grow.'),
    cfg.StrOpt(
        'vmdk_ext_drain_attribute',
        default='cinder_state',
        help='Custom attribute of datastores. While its value is '
             "'drain', or 'drain: REASON' as 'cinder-vmdk-ext pool drain' "
             'sets it, the datastore takes no more volumes. It stays listed '
             'as a pool, with zero free capacity, the reason, and the number '
             'of volumes that are left on it. Maintenance mode has the same '
             'effect. Empty: no attribute has this effect.'),
    cfg.StrOpt(
        'vmdk_ext_drain_tag',
        help='Tag, as TAG or CATEGORY:TAG, that drains a datastore like '
             'vmdk_ext_drain_attribute. If it is set, the driver queries the '
             'tagging service of the vCenter once a minute.'),
    cfg.IntOpt(
        'vmdk_ext_max_snapshot_depth',
        default=30,
        min=1,
        max=31,
        help='Greatest number of COW snapshots in the chain of a volume. '
             'vSphere allows 32 and recommends far fewer, because a read may '
             'have to search all of them.'),
    cfg.IntOpt(
        'vmdk_ext_policy_cache_seconds',
        default=300,
        min=0,
        help='How long, in seconds, the driver uses the list of datastores '
             'that comply with a storage policy before it queries the vCenter '
             'again.'),
    cfg.FloatOpt(
        'vmdk_ext_reconcile_interval',
        default=10.0,
        min=0.0,
        help='How often, in seconds, the service looks for disks that others '
             '(an administrator, Storage DRS) have moved, and corrects the '
             'hosts of their volumes. It costs nothing while nothing changes. '
             '0: never.'),
    cfg.PortOpt(
        'vmdk_ext_status_port',
        default=0,
        help='Port on 127.0.0.1 at which the service reports the state of the '
             'backend: /metrics for Prometheus, and /status, which '
             "'cinder-vmdk-ext status' reads. Answers contain names of pools "
             'and ids of volumes, but no credentials. They come from memory, '
             'without a call to the vCenter. Each backend needs its own port. '
             '0: no port.'),
    cfg.StrOpt(
        'vmdk_ext_deployment_id',
        help='Id that distinguishes the shadow VMs of this Cinder from those '
             'of other Cinders in the same vCenter. The driver stores it as '
             'vmdk-ext.deployment in their extra configuration, and a sweep '
             'moves nothing that has another id. It must be the same for all '
             'services of one Cinder. Default: the id of the volume type '
             '__DEFAULT__, which differs in each database of Cinder; set this '
             'option if that type was deleted or the database is a copy.'),
    cfg.StrOpt(
        'vmdk_ext_backup_dir',
        default='$state_path/vmdk-ext-backup',
        help='Folder through which cinder-backup gets and restores the '
             'content of a volume, and through which volumes are migrated '
             'between vCenters: a raw file with holes, as large as the '
             "volume's data, as long as that lasts. The "
             'service creates the folder, for its own user alone. '
             'cinder-backup must see it under the same path, and run as the '
             'same user. Empty: no backups or migrations through files.'),
    cfg.BoolOpt(
        'vmdk_ext_backup_dir_shared',
        default=False,
        help='Whether the cinder-backup services of other hosts, the '
             'cinder-volume services from which volumes are migrated here, '
             'and the other cinder-volume services of a cluster, see '
             'vmdk_ext_backup_dir too, on a file system that they share (NFS, '
             'for example). If false, a backup by another host, and a '
             'migration from it, is refused.'),
    cfg.BoolOpt(
        'vmdk_ext_connector_credentials',
        default=False,
        help="Give the vCenter's address, user and password to os-brick's "
             'vmdk connector, in place of a file in vmdk_ext_backup_dir. Then '
             'every member of a project can read them through the Volume API, '
             'and the database stores them with the attachment. Backups, '
             'host-assisted migration and Nova do not need this.'),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for oslo.config's sample generator, under a sample group.

    The operator chooses the name of a backend's section;
    ``backend_defaults`` is the only name that has a meaning for Cinder.
    """
    return [('backend_defaults', vmdk_ext_opts)]


def name_patterns() -> names.Names:
    """The names that Cinder's options give to volumes and snapshots."""
    return _names(cfg.CONF.volume_name_template,
                  cfg.CONF.snapshot_name_template)


_names = functools.lru_cache(maxsize=8)(names.Names)


def deployment_id(configuration: Any) -> str:
    """The id with which this deployment marks its VMs; '': it is unknown.

    The option, or else the id of the volume type ``__DEFAULT__``.
    """
    given = configuration.safe_get('vmdk_ext_deployment_id')
    if given:
        return given
    try:
        return volume_types.get_by_name_or_id(
            context.get_admin_context(),
            volume_types.DEFAULT_VOLUME_TYPE)['id']
    except exception.VolumeTypeNotFoundByName:
        return ''


def settings(configuration: Any) -> model.Settings:
    """Read and check the options of pools and placement.

    :param configuration: the backend's section (a cinder
        ``volume.configuration.Configuration``)
    :raises InvalidSettings: names the option, its value and the remedy
    """
    get = configuration.safe_get
    return model.Settings(
        backend_name=get('volume_backend_name') or 'VmdkExtDriver',
        datastore_pools=bool(get('vmdk_ext_datastore_pools')),
        storage_pods=bool(get('vmdk_ext_storage_pods')),
        drain_attribute=get('vmdk_ext_drain_attribute') or None,
        drain_tag=get('vmdk_ext_drain_tag') or None,
        cluster_names=tuple(get('vmware_cluster_name') or ()),
        datastore_regex=_regex(get('vmware_datastore_regex')),
        storage_policies=tuple(get('vmware_storage_profile') or ()),
        reserved_percentage=get('reserved_percentage') or 0,
        max_over_subscription_ratio=_ratio(
            get('max_over_subscription_ratio')),
        min_free_gib=_finite('vmdk_ext_min_free_gib', get,
                             'set a number of GiB'),
        min_free_percent=_finite('vmdk_ext_min_free_percent', get,
                                 'set a number from 0 to 100'))


def check_connection_options(configuration: Any) -> None:
    """Check the options that a connection to the vCenter needs.

    :raises InvalidSettings: for the first option that is missing or wrong
    """
    for option, example in (('vmware_host_ip', "the vCenter's address"),
                            ('vmware_host_username', 'a vCenter user'),
                            ('vmware_host_password', "that user's password")):
        if not configuration.safe_get(option):
            raise exceptions.InvalidSettings(
                option, 'it is not set',
                f"set it to {example} in the backend's section of "
                'cinder.conf')
    ca_file = configuration.safe_get('vmware_ca_file')
    if ca_file and not (os.path.isfile(ca_file)
                        and os.access(ca_file, os.R_OK)):
        raise exceptions.InvalidSettings(
            'vmware_ca_file', f'there is no file {ca_file!r} to read',
            "store the certificate of the vCenter's authority there, or "
            "unset it to trust the system's authorities")


def _regex(pattern: str | None) -> re.Pattern[str] | None:
    if not pattern:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise exceptions.InvalidSettings(
            'vmware_datastore_regex',
            f'{pattern!r} is no regular expression ({error})',
            'correct it; it must match from the start of the name')


def _finite(option: str, get: Callable[[str], Any], remedy: str) -> float:
    value = get(option) or 0.0
    if not math.isfinite(value):
        raise exceptions.InvalidSettings(option, f'{value} is no size',
                                         remedy)
    return value


def _ratio(value: Any) -> float | None:
    try:
        ratio = volume_utils.get_max_over_subscription_ratio(
            '20.0' if value is None else value,
            supports_auto=True)
        if ratio != 'auto' and not math.isfinite(ratio):
            raise ValueError
    except Exception:
        raise exceptions.InvalidSettings(
            'max_over_subscription_ratio', f'{value!r} is no ratio',
            "set a number of at least 1.0, or 'auto'")
    return None if ratio == 'auto' else float(ratio)
