# SPDX-License-Identifier: Apache-2.0
"""Writes Cinder's configuration: cinder.conf, api-paste.ini, volume types."""
from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import configparser
import dataclasses
from importlib import metadata
import os
from pathlib import Path
import sysconfig
import typing

from sandbox import errors

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / 'build'

PLUGIN_DRIVER = 'cinder_vmdk_ext.driver.VmdkExtDriver'
UPSTREAM_DRIVER = 'cinder.volume.drivers.vmware.vmdk.VMwareVcVmdkDriver'

Runtime = typing.Literal['eventlet', 'threads']
RUNTIMES: tuple[Runtime, ...] = typing.get_args(Runtime)

# In a URL of the Volume API only hexadecimal digits and dashes are taken for
# a project.
PROJECT_ID = '00000000000000000000000000000001'

# What Cinder calls the host of its services.
HOST = 'sandbox'

# One option may have several values (vmware_cluster_name, for one).
OptionValue = typing.Union[str, int, float, bool, Path, Sequence[str]]
Options = Mapping[str, OptionValue]

#: The vCenter is to be the limit.
QUOTAS = {'quota_volumes': -1, 'quota_snapshots': -1, 'quota_gigabytes': -1,
          'quota_groups': -1}


@dataclasses.dataclass(frozen=True)
class Backend:
    """One section of cinder.conf that is a storage backend.

    :param name: the section, and what Cinder's host shows after the '@'
    :param driver: the driver's class; empty for the sandbox's own default
    :param options: what differs from `vcenter_options`
    """

    name: str = 'vcenter'
    driver: str = ''
    options: Options = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class VolumeType:
    """A volume type that the sandbox creates."""

    name: str
    extra_specs: Mapping[str, str]


def volume_types(backends: Sequence[Backend]) -> list[VolumeType]:
    """The types of a sandbox: one per disk type, and `default` without one.

    With several backends these lead to the first one, and there is one more
    for each of the others, named like the backend.
    """
    only = {'volume_backend_name': backends[0].name} \
        if len(backends) > 1 else {}
    # provisioning:type makes the scheduler count a thick disk in full.
    return [
        VolumeType('default', only),
        VolumeType('thin', {'vmware:vmdk_type': 'thin', **only}),
        VolumeType('thick', {'vmware:vmdk_type': 'thick',
                             'provisioning:type': 'thick', **only}),
        VolumeType('eagerZeroedThick', {
            'vmware:vmdk_type': 'eagerZeroedThick',
            'provisioning:type': 'thick', **only}),
        *(VolumeType(backend.name, {'volume_backend_name': backend.name})
          for backend in backends[1:])]


def vcenter_options(host: str, port: int, user: str, password: str,
                    ca_file: str, folder: Path) -> dict[str, OptionValue]:
    """The vmware_* options that lead a driver to the simulated vCenter."""
    return {
        'vmware_host_ip': host,
        'vmware_host_port': port,
        'vmware_host_username': user,
        'vmware_host_password': password,
        'vmware_ca_file': ca_file,
        'vmware_insecure': False,
        # With lazy creation, which is the driver's default, "volume create"
        # makes no disk at all, and trying it out shows nothing.
        'vmware_lazy_create': False,
        # Upstream reports no capacity at all without it.
        'vmware_enable_volume_stats': True,
        'vmware_task_poll_interval': 0.2,
        # A sandbox that hangs on a lost vCenter for minutes teaches nothing.
        'vmware_api_retry_count': 2,
        'vmware_tmp_dir': folder / 'tmp',
    }


def cinder_options(folder: Path, backends: Sequence[Backend]) -> Options:
    """The [DEFAULT] section: everything in one folder and on loopback."""
    etc = installed_etc()
    return {
        'host': HOST,
        'my_ip': '127.0.0.1',
        'auth_strategy': 'noauth',
        'transport_url': 'fake:/',
        'osapi_volume_listen': '127.0.0.1',
        # 0: the kernel chooses a free one, and the process reports it.
        'osapi_volume_listen_port': 0,
        'osapi_volume_workers': 1,
        'api_paste_config': folder / 'etc' / 'api-paste.ini',
        'resource_query_filters_file': etc / 'resource_filters.json',
        'rootwrap_config': etc / 'rootwrap.conf',
        'state_path': folder / 'state',
        'image_conversion_dir': folder / 'tmp',
        'enabled_backends': ','.join(backend.name for backend in backends),
        # Without an existing default type "volume create" is an error 500.
        'default_volume_type': 'default',
        **QUOTAS,
        # A driver that cannot start is reported at once, not tried again.
        'reinit_driver_count': 0,
        # The scheduler waits this long for a first report, and overlooks it
        # when a driver has sent one before (cinder.scheduler.host_manager,
        # first_receive_capabilities). The sandbox waits for the pools itself.
        'scheduler_driver_init_wait_time': 1,
        'report_interval': 5,
        'service_down_time': 60,
        'periodic_interval': 5,
        'periodic_fuzzy_delay': 0,
        'backend_stats_polling_interval': 5,
    }


def glance_options(url: str) -> Options:
    """The [DEFAULT] options that lead Cinder to a Glance."""
    return {
        'glance_api_servers': url,
        # Whose the volumes of the image-volume cache are.
        'cinder_internal_tenant_project_id': PROJECT_ID,
        'cinder_internal_tenant_user_id': 'admin',
    }


def write_cinder_conf(folder: Path, backends: Sequence[Backend],
                      vcenter: Options, default_driver: str,
                      overrides: Mapping[str, Options]) -> Path:
    """Write cinder.conf and what it refers to.

    :param vcenter: see `vcenter_options`; every backend starts with these
    :param overrides: section name -> options, laid over everything else
    :returns: the path of cinder.conf, which holds the vCenter's password
    """
    sections: dict[str, dict[str, OptionValue]] = {
        'DEFAULT': dict(cinder_options(folder, backends)),
        'database': {
            'connection': 'sqlite:///%s?timeout=60' % database_file(folder),
            # Losing the last writes in a power cut is fine for a sandbox.
            'sqlite_synchronous': False,
        },
        'oslo_concurrency': {'lock_path': folder / 'locks'},
        'coordination': {'backend_url': 'file://%s' % (folder / 'locks')},
    }
    for backend in backends:
        sections[backend.name] = {
            'volume_driver': backend.driver or default_driver,
            'volume_backend_name': backend.name,
            **vcenter, **backend.options}
    for section, options in overrides.items():
        sections.setdefault(section, {}).update(options)
    for name in ('etc', 'state', 'locks', 'tmp'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / 'etc' / 'cinder.conf'
    write_private(path, as_ini(sections))
    _write_api_paste(folder / 'etc' / 'api-paste.ini')
    return path


def empty_database_file() -> Path:
    """Where Cinder's tables are kept, empty, once they were made.

    For the release of Cinder that is installed. Cinder writes the quotas into
    them as it makes them, and they are to be QUOTAS.
    """
    return BUILD / f'cinder-tables-{metadata.version("cinder")}.sqlite'


def database_file(folder: Path) -> Path:
    """Where Cinder's SQLite database lives."""
    return folder / 'state' / 'cinder.sqlite'


def installed_etc() -> Path:
    """Where Cinder's wheel has put its configuration files.

    :raises SandboxError: when Cinder is not installed beside this Python
    """
    etc = Path(sysconfig.get_path('data')) / 'etc' / 'cinder'
    if not (etc / 'api-paste.ini').exists():
        raise errors.SandboxError(
            '%s/api-paste.ini is missing: Cinder is not installed beside this '
            'Python. Run "make venv" and use build/venv/bin/python.' % etc)
    return etc


def parse_override(text: str) -> tuple[str, str, str]:
    """Split "SECTION.OPTION=VALUE".

    :raises SandboxError: when it has another form
    """
    name, equals, value = text.partition('=')
    section, dot, option = name.partition('.')
    if not (equals and dot and section and option):
        raise errors.SandboxError(
            '"%s" is not of the form SECTION.OPTION=VALUE, for example '
            'DEFAULT.debug=true' % text)
    return section, option, value


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first moment."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, 'w') as stream:
        stream.write(text)


def as_ini(sections: Mapping[str, Options]) -> str:
    """Section name -> options, in the form that oslo.config reads."""
    lines = []
    for section, options in sections.items():
        lines.append('[%s]' % section)
        for option, value in options.items():
            several = (value if isinstance(value, (list, tuple)) else [value])
            # oslo.config reads '$' as the start of a reference.
            lines += ['%s = %s' % (option, str(one).replace('$', '$$'))
                      for one in several]
        lines.append('')
    return '\n'.join(lines)


def _write_api_paste(path: Path) -> None:
    paste = configparser.RawConfigParser()
    paste.optionxform = str  # type: ignore[assignment,method-assign]
    paste.read(installed_etc() / 'api-paste.ini')
    paste['filter:default_token'] = {
        'paste.filter_factory': 'sandbox.default_token:filter_factory',
        'token': 'admin:%s' % PROJECT_ID}
    pipeline = paste['composite:openstack_volume_api_v3']
    pipeline['noauth'] = pipeline['noauth'].replace(
        ' noauth ', ' default_token noauth ')
    with open(path, 'w') as stream:
        paste.write(stream)
