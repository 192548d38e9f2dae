# SPDX-License-Identifier: Apache-2.0
"""Opens a backend of a cinder.conf, while its service may be running."""

import contextlib
import glob
import logging
import os
import pwd
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg
from tooz import coordination as tooz

from cinder.common import config as cinder_config
from cinder import context as cinder_context
from cinder import coordination
from cinder import objects
from cinder.volume import configuration
from cinder.volume import driver as volume_driver
from cinder.volume import volume_utils

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.cmd import volume_api as cinder_volume_api
from cinder_vmdk_ext import config
from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import names as patterns
from cinder_vmdk_ext import volume_rows

# The command's own, whose warnings are always shown.
LOG = logging.getLogger('cinder-vmdk-ext')

_DRIVER = 'cinder_vmdk_ext.driver.VmdkExtDriver'
_UPSTREAM = 'cinder.volume.drivers.vmware.vmdk.VMwareVcVmdkDriver'
_OPTIONS = (cfg.StrOpt('volume_driver'), cfg.StrOpt('backend_host'))
# Only the program cinder-volume registers it, and this is another program.
_CLUSTER = cfg.StrOpt('cluster')


#: Cinder's API, by the name or id of a project.
volume_api = cinder_volume_api.connect


def load(config_files: list[str]) -> None:
    """Read Cinder's configuration; without files, from the default files."""
    objects.register_all()
    options: dict[str, Any] = {'project': 'cinder'}
    if config_files:
        options['default_config_files'] = config_files
        options['default_config_dirs'] = []
    cinder_config.CONF([], **options)
    cinder_config.CONF.register_opt(_CLUSTER)


def config_files() -> list[str]:
    """The files of Cinder's configuration that were read."""
    conf = cinder_config.CONF
    return [*(conf.config_file or ()),
            *(path for folder in conf.config_dir or ()
              for path in sorted(glob.glob(f'{folder}/*.conf')))]


def driver_options() -> list[Any]:
    """The options of the driver's section."""
    return list(driver.VmdkExtDriver.get_driver_options())


def names(wanted: str | None = None, upstream: bool = False) -> list[str]:
    """Sections of the enabled backends that use this driver.

    :param wanted: only this one
    :param upstream: also those that use upstream's driver
    :raises InvalidSettings: no backend uses this driver, or ``wanted`` is
        not among them
    """
    conf = cinder_config.CONF
    found = []
    for name in conf.enabled_backends or ():
        conf.register_opts(_OPTIONS, group=name)
        if conf[name].volume_driver in (
                _DRIVER, *([_UPSTREAM] if upstream else [])):
            found.append(name)
    if wanted is not None and wanted not in found:
        raise exceptions.InvalidSettings(
            '--backend', f'{wanted!r} is not an enabled backend of {_DRIVER}',
            f'name one of: {", ".join(found) or "(no backends)"}')
    if not found:
        raise exceptions.InvalidSettings(
            'enabled_backends', f'no enabled backend has the driver {_DRIVER}',
            'give the cinder.conf of cinder-volume with --config-file')
    return [wanted] if wanted else found


def _section(name: str) -> configuration.Configuration:
    return configuration.Configuration(volume_driver.volume_opts,
                                       config_group=name)


def connection(name: str) -> Any:
    """A backend's options: its vCenter's address and how it is verified."""
    section = _section(name)
    section.append_config_values(driver.VmdkExtDriver.get_driver_options())
    return section


def owner_of(path: str) -> str:
    """The owner of a path within a datastore, by its name.

    :returns: words for a message, as 'volume or snapshot 1234 by its name';
        '': Cinder does not own it
    """
    top = path.partition('/')[0]
    if top == compare.QUARANTINE_PATH:
        return 'the quarantine (see quarantine list)'
    if path.startswith(patterns.TEMPORARY_FOLDER):
        return 'an operation of Cinder (see audit)'
    found = config.name_patterns().in_path(path)
    return f'volume or snapshot {found} by its name' if found else ''


def owner_of_uuid(uuid: str) -> str:
    """The volume whose disk has a UUID, by Cinder's database.

    The disk of a volume has its id, or the id that its name contains.

    :returns: words for a message, as 'volume 1234'; '': no volume has it
    :raises StorageRefused: the database does not answer
    """
    context = cinder_context.get_admin_context()
    try:
        found = [each.id for column in ('id', '_name_id')
                 for each in objects.VolumeList.get_all(
                     context, filters={column: uuid})]
    except volume_rows.DATABASE_ERRORS as error:
        raise exceptions.StorageRefused(
            'whether the disk belongs to a volume is unknown, because '
            "Cinder's database does not answer: "
            + str(error).partition('\n')[0]) from error
    return f'volume {found[0]}' if found else ''


def _service_of(name: str) -> tuple[str, str | None]:
    """The host and the cluster of a backend's service here."""
    conf = cinder_config.CONF
    host = _section(name).safe_get('backend_host') or conf.host
    return (f'{host}@{name}',
            f'{conf.cluster}@{name}' if conf.cluster else None)


@contextlib.contextmanager
def opened(name: str) -> Iterator[Any]:
    """Connect a backend, and end its session after the block."""
    host, cluster = _service_of(name)
    made = driver.VmdkExtDriver(configuration=_section(name), host=host,
                                cluster_name=cluster)
    try:
        made.do_setup(cinder_context.get_admin_context())
        yield made.backend
    finally:
        made.backend.end_session()


@contextlib.contextmanager
def locking() -> Iterator[None]:
    """Share the locks of the running services during the block.

    :raises LockUnavailable: the coordination backend does not answer, or its
        files belong to another user, or to no service of this machine
    """
    _check_files()
    try:
        coordination.COORDINATOR.start()
    except (tooz.ToozError, OSError) as error:
        raise exceptions.LockUnavailable('service', error) from error
    try:
        yield
    finally:
        coordination.COORDINATOR.stop()


def _check_files() -> None:
    """Refuse lock files that no service would see, or could not open.

    A lock's file remains. The services could not do anything again with a
    volume whose lock file belongs to another user.
    """
    kind, _, path = (cinder_config.CONF.coordination.backend_url
                     or '').partition('://')
    if kind != 'file':
        return
    hosts = _hosts_up()
    if not os.path.exists(path):
        if hosts:
            # A service that runs makes this folder when it starts.
            raise exceptions.LockUnavailable('service', FileNotFoundError(
                f'{path} does not exist, so the service {hosts[0]} runs on '
                'another machine; run the command there, or share the locks '
                'by [coordination] backend_url'))
        return
    if len(hosts) > 1:
        LOG.warning(
            'the locks are files in %s, but the services %s run; unless all '
            'of them and this command see one folder, two of them may change '
            'a volume at once; see [coordination] backend_url', path,
            exceptions.shortened(hosts))
    owner = os.stat(path).st_uid
    if owner not in (0, os.geteuid()):
        raise exceptions.LockUnavailable('service', PermissionError(
            f'{path} belongs to user {_name_of(owner)}; run the command as '
            'that user'))


def _hosts_up() -> list[str]:
    """The services of these backends that run, by their hosts."""
    ours = set(map(_service_of, names()))
    hosts = {host for host, _cluster in ours}
    clusters = {cluster for _host, cluster in ours if cluster}
    found: Iterable[Any] = objects.ServiceList.get_all(
        cinder_context.get_admin_context(), {'binary': 'cinder-volume'})
    return sorted({volume_utils.extract_host(each.host, 'host')
                   for each in found if each.is_up and (
                       each.host in hosts or each.cluster_name in clusters)})


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
