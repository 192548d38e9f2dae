# SPDX-License-Identifier: Apache-2.0
"""Nova with its VMware driver, on the simulated vCenter's first cluster."""
from __future__ import annotations

from pathlib import Path
import shutil
import subprocess
import tempfile
from typing import Any

from sandbox import configuration
from sandbox import processes
from sandbox import servers
from sandbox.services import accounts as accounts_module
from sandbox.services import environment
from simulator import client

_QEMU_IMG = servers.Program('qemu-img', 'qemu-utils')
PROGRAMS = (_QEMU_IMG,)
# The simulator's name for its first cluster.
CLUSTER = 'DC0_C0'
HOST = 'sandbox'
# (name, MB of memory, GB of the root disk) of each flavor.
FLAVORS = (('tiny', 64, 1), ('small', 128, 1))
IMAGE = 'tiny'

_START_TIMEOUT_SECONDS = 600
_IMAGE_BYTES = 1024 ** 2


def options(folder: Path, databases: dict[str, str], broker: str,
            accounts: accounts_module.Accounts,
            vcenter: client.Address
            ) -> dict[str, configuration.Options]:
    """Section -> options of nova.conf.

    :param databases: of "nova_api" and "nova", where they are
    """
    as_service = accounts.service_options()
    home = folder / 'nova'
    return {
        'DEFAULT': {
            'host': HOST,
            'my_ip': '127.0.0.1',
            'use_stderr': True,
            'state_path': home,
            'instances_path': home / 'instances',
            'transport_url': broker,
            'compute_driver': 'vmwareapi.VMwareVCDriver',
            'report_interval': 5,
            'service_down_time': 60,
            # The other virtual machines of the vCenter are not Nova's.
            'running_deleted_instance_action': 'noop',
        },
        'api': {'auth_strategy': 'keystone'},
        'api_database': {'connection': databases['nova_api']},
        'database': {'connection': databases['nova']},
        'oslo_concurrency': {'lock_path': home / 'locks'},
        'keystone_authtoken': accounts.token_options(),
        'service_user': accounts.user_options(),
        'placement': as_service,
        'neutron': as_service,
        'keystone': as_service,
        'cinder': {**as_service, 'catalog_info': 'volumev3::publicURL',
                   'os_region_name': accounts_module.REGION},
        'glance': {'api_servers': accounts_module.url(
            accounts.ports.glance)},
        'vnc': {'enabled': False},
        'conductor': {'workers': 1},
        'scheduler': {'workers': 1,
                      'discover_hosts_in_cells_interval': 5},
        'vmware': _vcenter_options(vcenter),
    }


def _vcenter_options(vcenter: client.Address) -> configuration.Options:
    return {
        'host_ip': vcenter.host,
        'host_port': vcenter.port,
        'host_username': vcenter.user,
        'host_password': vcenter.password,
        'ca_file': vcenter.cacert,
        'insecure': False,
        'cluster_name': CLUSTER,
        'task_poll_interval': 0.2,
        'api_retry_count': 2,
        # Root disks of their own, as most clouds have them.
        'use_linked_clone': False,
    }


def write(folder: Path, sections: dict[str, configuration.Options]) -> Path:
    """Write nova.conf and what it refers to; returns its path."""
    etc = folder / 'etc' / 'nova'
    etc.mkdir(exist_ok=True)
    (folder / 'nova' / 'instances').mkdir(parents=True, exist_ok=True)
    shutil.copy(environment.SERVICES.folder / 'etc' / 'nova'
                / 'api-paste.ini', etc)
    path = etc / 'nova.conf'
    configuration.write_private(path, configuration.as_ini(sections))
    return path


def start(folder: Path, nova_conf: Path,
          accounts: accounts_module.Accounts
          ) -> list[processes.ManagedProcess]:
    """Start Nova's four services, without waiting for them.

    :returns: the API first, and nova-compute last
    """
    started = [environment.serve(
        'nova-api', 'nova.wsgi.osapi_compute', accounts.ports.nova, folder,
        {'OS_NOVA_CONFIG_DIR': str(nova_conf.parent)})]
    for name in ('nova-conductor', 'nova-scheduler', 'nova-compute'):
        started.append(processes.ManagedProcess.start(
            name, [environment.SERVICES.program(name),
                   '--config-file', str(nova_conf)], folder,
            environment=environment.SERVICES.variables()))
    return started


def wait_until_ready(started: list[processes.ManagedProcess],
                     admin: Any, accounts: accounts_module.Accounts) -> None:
    """Return when servers can be placed on the cluster.

    :param admin: a connection of openstacksdk as the administrator
    :raises ProcessFailed: when nova-compute ends or stays silent instead
    """
    environment.wait_until_serving(
        started[0], accounts_module.url(accounts.ports.nova))
    known: Any = None

    def probe() -> bool | None:
        nonlocal known
        # The first is there once the scheduler has found the host.
        known = known or next(iter(admin.compute.hypervisors()), None)
        if known is None:
            return None
        provider = next(iter(admin.placement.resource_providers()), None)
        return True if provider is not None and list(
            admin.placement.resource_provider_inventories(
                provider)) else None

    started[-1].wait_until_ready(probe, _START_TIMEOUT_SECONDS)


def populate(admin: Any) -> None:
    """Make the flavors, and an image that a server can be made of.

    :param admin: a connection of openstacksdk as the administrator
    """
    for name, memory_mb, disk_gb in FLAVORS:
        admin.compute.create_flavor(name=name, ram=memory_mb, vcpus=1,
                                    disk=disk_gb)
    # Not "preallocated": Nova 34 asks the vCenter for a disk of "1024.0" KiB
    # then, which is no number that vSphere knows. Not "sparse": Nova sends it
    # to a host of the vCenter by its name, which is not on any network here.
    admin.image.create_image(
        IMAGE, data=_empty_disk(), disk_format='vmdk',
        container_format='bare', visibility='public', wait=True,
        vmware_disktype='streamOptimized', vmware_adaptertype='lsiLogic')


def _empty_disk() -> bytes:
    """A VMDK file (streamOptimized) of a disk of zeros."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / 'disk.vmdk'
        subprocess.run(
            [_QEMU_IMG.required(), 'create', '-q', '-f', 'vmdk', '-o',
             'subformat=streamOptimized', str(disk), str(_IMAGE_BYTES)],
            check=True)
        return disk.read_bytes()
