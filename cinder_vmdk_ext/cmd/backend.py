# SPDX-License-Identifier: Apache-2.0
"""Opens a backend of a cinder.conf, beside the service that serves it."""

import contextlib
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

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext import config
from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import names as patterns

_DRIVER = 'cinder_vmdk_ext.driver.VmdkExtDriver'
_OPTIONS = (cfg.StrOpt('volume_driver'), cfg.StrOpt('backend_host'))
# Registered by cinder-volume's own program only, which this one is not.
_CLUSTER = cfg.StrOpt('cluster')


def load(config_files: list[str]) -> None:
    """Read Cinder's configuration; without files from its usual places."""
    objects.register_all()
    options: dict[str, Any] = {'project': 'cinder'}
    if config_files:
        options['default_config_files'] = config_files
        options['default_config_dirs'] = []
    cinder_config.CONF([], **options)
    cinder_config.CONF.register_opt(_CLUSTER)


def names(wanted: str | None = None) -> list[str]:
    """Sections of the enabled backends that this driver serves.

    :raises InvalidSettings: no backend is configured, or not the wanted one
    """
    conf = cinder_config.CONF
    found = []
    for name in conf.enabled_backends or ():
        conf.register_opts(_OPTIONS, group=name)
        if conf[name].volume_driver == _DRIVER:
            found.append(name)
    if wanted is not None and wanted not in found:
        raise exceptions.InvalidSettings(
            '--backend', f'{wanted!r} is no enabled backend of {_DRIVER}',
            f'name one of: {", ".join(found) or "there are none"}')
    if not found:
        raise exceptions.InvalidSettings(
            'enabled_backends', f'no enabled backend has the driver {_DRIVER}',
            'give the cinder.conf of cinder-volume with --config-file')
    return [wanted] if wanted else found


def _section(name: str) -> configuration.Configuration:
    return configuration.Configuration(volume_driver.volume_opts,
                                       config_group=name)


def connection(name: str) -> Any:
    """A backend's options: where its vCenter is, and how it is verified."""
    section = _section(name)
    section.append_config_values(driver.VmdkExtDriver.get_driver_options())
    return section


def owner_of(path: str) -> str:
    """Whom a path within a datastore belongs to, by its name.

    :returns: for a sentence, as 'volume 1234'; '': nothing of Cinder's
    """
    top = path.partition('/')[0]
    if top == compare.QUARANTINE_PATH:
        return 'the quarantine (see quarantine list)'
    if path.startswith(patterns.TEMPORARY_FOLDER):
        return 'an operation of Cinder (see audit)'
    found = config.name_patterns().in_path(path)
    return f'volume or snapshot {found} by its name' if found else ''


@contextlib.contextmanager
def opened(name: str) -> Iterator[Any]:
    """A backend that is connected, until the block ends."""
    conf = cinder_config.CONF
    section = _section(name)
    host = section.safe_get('backend_host') or conf.host
    made = driver.VmdkExtDriver(
        configuration=section, host=f'{host}@{name}',
        cluster_name=f'{conf.cluster}@{name}' if conf.cluster else None)
    try:
        made.do_setup(cinder_context.get_admin_context())
        yield made.backend
    finally:
        made.backend.end_session()


@contextlib.contextmanager
def locking() -> Iterator[None]:
    """Have the locks of the services that are running, in this block."""
    try:
        coordination.COORDINATOR.start()
    except (tooz.ToozError, OSError) as error:
        raise exceptions.LockUnavailable('service', error) from error
    try:
        yield
    finally:
        coordination.COORDINATOR.stop()
