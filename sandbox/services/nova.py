# SPDX-License-Identifier: Apache-2.0
"""Nova with its VMware driver, on two clusters of the simulated vCenter."""
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
#: Host of a nova-compute -> the simulator's name for its cluster. The first
#: has all servers; the second is disabled until it is needed.
CLUSTERS = {'sandbox': 'DC0_C0', 'sandbox-2': 'DC0_C1'}
HOSTS = tuple(CLUSTERS)
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
            'host': HOSTS[0],
            'my_ip': '127.0.0.1',
            'use_stderr': True,
            'state_path': home,
            'instances_path': home / 'instances',
            'transport_url': broker,
            'compute_driver': 'vmwareapi.VMwareVCDriver',
            'report_interval': 5,
            'service_down_time': 60,
            # Within a cluster, the vCenter chooses the host.
            'allow_resize_to_same_host': True,
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
        'cluster_name': CLUSTERS[HOSTS[0]],
        'task_poll_interval': 0.2,
        'api_retry_count': 2,
        # Nova 34 fails a live migration where it is not set.
        'datastore_regex': '.*',
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


def _write_second(nova_conf: Path, folder: Path) -> Path:
    """What the second nova-compute reads beside nova.conf."""
    host = HOSTS[1]
    home = folder / host
    (home / 'instances').mkdir(parents=True, exist_ok=True)
    path = nova_conf.with_name('%s.conf' % host)
    configuration.write_private(path, configuration.as_ini({
        'DEFAULT': {'host': host, 'state_path': home,
                    'instances_path': home / 'instances'},
        'vmware': {'cluster_name': CLUSTERS[host]}}))
    return path


def start(folder: Path, nova_conf: Path,
          accounts: accounts_module.Accounts
          ) -> list[processes.ManagedProcess]:
    """Start Nova's services, without waiting for them.

    :returns: the API first, and nova-compute last
    """
    started = [environment.serve(
        'nova-api', 'nova.wsgi.osapi_compute', accounts.ports.nova, folder,
        {'OS_NOVA_CONFIG_DIR': str(nova_conf.parent)})]
    second = _write_second(nova_conf, folder)
    for name, program, files in (
            ('nova-conductor', 'nova-conductor', [nova_conf]),
            ('nova-scheduler', 'nova-scheduler', [nova_conf]),
            ('nova-compute-2', 'nova-compute', [nova_conf, second]),
            ('nova-compute', 'nova-compute', [nova_conf])):
        started.append(processes.ManagedProcess.start(
            name, [environment.SERVICES.program(program),
                   *(word for path in files
                     for word in ('--config-file', str(path)))], folder,
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

    def probe() -> bool | None:
        # There once the scheduler has found their hosts.
        if len(list(admin.compute.hypervisors())) < len(HOSTS):
            return None
        providers = list(admin.placement.resource_providers())
        return True if len(providers) == len(HOSTS) and all(
            list(admin.placement.resource_provider_inventories(provider))
            for provider in providers) else None

    # Each, so that the one that ends is named.
    for process in started[-len(HOSTS):]:
        process.wait_until_ready(probe, _START_TIMEOUT_SECONDS)
    second = next(each for each in admin.compute.services(
        binary='nova-compute') if each.host == HOSTS[1])
    admin.compute.disable_service(second)


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
