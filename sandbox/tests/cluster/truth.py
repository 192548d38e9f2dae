# SPDX-License-Identifier: Apache-2.0
"""Checks Cinder's records without the driver."""

import time

from oslo_utils import units
import redis

from sandbox import inspection
from sandbox.tests.cluster import load


def differences(cloud, control, content):
    """Differences between pyVmomi's results and Cinder's API.

    :param content: volume id -> its first bytes, as the client wrote them
    :returns: one sentence for each
    """
    api = cloud.cinder
    volumes, snapshots = api.volumes.list(), api.volume_snapshots.list()
    with inspection.Inspector(cloud.vcenter) as vcenter:
        machines = [machine for machine in vcenter.machines()
                    if not machine.name.startswith('DC0_')]
    found = []
    for volume in volumes:
        named = [machine for machine in machines
                 if volume.id in (machine.instance_uuid,
                                  machine.name.removeprefix('volume-'))]
        if len(named) != 1:
            found.append(f'{volume.id} has {len(named)} VMs')
            continue
        machines.remove(named[0])
        found += _of_volume(volume, named[0], control,
                            content.get(volume.id))
    for snapshot in snapshots:
        named = [machine for machine in machines
                 if machine.name == f'snapshot-{snapshot.id}']
        if len(named) != 1:
            found.append(f'snapshot {snapshot.id} has {len(named)} VMs')
        machines = [one for one in machines if one not in named]
    return found + [f'{machine.name} belongs to no volume'
                    for machine in machines]


def _of_volume(volume, machine, control, content):
    if len(machine.disks) != 1:
        return [f'{volume.id} has {len(machine.disks)} disks']
    disk, = machine.disks
    facts = {
        'status': (volume.status, 'available'),
        'pool': (load.pool_of(volume), disk.datastore),
        "cluster's pool": (volume.cluster_name.partition('#')[2],
                           disk.datastore),
        'size': (volume.size * units.Gi, disk.size_bytes),
    }
    if content is not None:
        datastore, _, path = disk.path[1:].partition('] ')
        facts['content'] = (content.decode(), control.call(
            'GET', '/disk', None, datastore=datastore, path=path, offset=0,
            length=len(content)))
    return [f'{volume.id}: {name} is {found!r}, and in truth {true!r}'
            for name, (found, true) in facts.items() if found != true]


def sessions(control, expected, patience_seconds):
    """How many sessions there are, once they are as few as expected.

    Those of killed services end when the vCenter's time-out ends them.
    """
    return len(_once_few(control.sessions, expected, patience_seconds))


def locks(cloud, patience_seconds):
    """Locks that a process holds, or has left.

    That of a killed service ends half a minute later.
    """
    server = redis.Redis.from_url(
        cloud.overrides['coordination']['backend_url'])
    return [name.decode() for name in _once_few(
        lambda: list(server.scan_iter('*_lock')), 0, patience_seconds)]


def _once_few(read, most, patience_seconds):
    """What there is, once it is no more than that; at last all the same."""
    deadline = time.monotonic() + patience_seconds
    while len(found := read()) > most and time.monotonic() <= deadline:
        time.sleep(1)
    return found
