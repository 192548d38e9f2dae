# SPDX-License-Identifier: Apache-2.0
"""Clients that use their own volumes through Cinder's API."""

import random
import threading
import time

from cinderclient import exceptions as cinder_exceptions
import requests

from sandbox import clients
from sandbox import inspection
from sandbox.tests.cluster import ledger

TYPES = ('thin', 'thick', 'eagerZeroedThick')
# Cinder moves on from these only when it is asked to.
RESTING = ('available', 'in-use', 'error', 'error_deleting',
           'error_extending')
_MOST_VOLUMES = 6
_POLL_SECONDS = 0.4


def status_of(collection, identifier):
    """Its status, "gone", or "migrating" while that goes on behind one."""
    try:
        found = collection.get(identifier)
    except cinder_exceptions.NotFound:
        return 'gone'
    if getattr(found, 'migration_status', None) in ('starting', 'migrating',
                                                    'completing'):
        return 'migrating'
    return found.status


def settled(collection, identifier, patience_seconds):
    """Wait for a status that lasts.

    :returns: that status, or what it still was when patience ended
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        status = status_of(collection, identifier)
        if status in (*RESTING, 'gone') or time.monotonic() > deadline:
            return status
        time.sleep(_POLL_SECONDS)


def ask(api, volume, wish):
    """Ask Cinder for a change of a volume."""
    if wish.operation == 'extend':
        api.volumes.extend(volume, wish.value)
    elif wish.operation == 'retype':
        api.volumes.retype(volume, wish.value, 'on-demand')
    else:
        api.volumes.migrate_volume(volume, None, False, False,
                                   cluster=wish.value)


def is_fulfilled(volume, wish):
    """Whether Cinder says that the change was made.

    Cinder's API forgets the pool of a migration within a cluster, and its
    scheduler chooses one; that may be where the volume is.
    """
    return {'extend': volume.size == wish.value,
            'retype': volume.volume_type == wish.value,
            'migrate': volume.migration_status == 'success',
            }[wish.operation]


def pool_of(volume):
    """The pool that a volume's host names."""
    return getattr(volume, 'os-vol-host-attr:host').partition('#')[2]


def write(where, control, volume_id, content):
    """Write to a volume's disk, as a guest would."""
    with inspection.Inspector(where) as vcenter:
        vm = vcenter.service.content.searchIndex.FindByUuid(
            None, volume_id, True, True)
        disk, = [device for device in vm.config.hardware.device
                 if hasattr(device, 'capacityInBytes')]
        datastore, _, path = disk.backing.fileName[1:].partition('] ')
    control.call('PUT', '/disk', content, datastore=datastore, path=path,
                 offset=0)


class Client(threading.Thread):
    """Does one operation after the other, chosen at random.

    Its volumes are its own, so that it knows what each must be.

    :param cloud: the sandbox's `Cluster`
    :param control: the control endpoint of the simulated vCenter
    """

    def __init__(self, number, cloud, control, book, patience_seconds, seed):
        super().__init__(name=f'client-{number}', daemon=True)
        self.api = clients.Clients(cloud.endpoint).python
        self._cloud = cloud
        self._control = control
        self._book = book
        self._patience_seconds = patience_seconds
        self._random = random.Random(f'{seed}-{number}')
        self._pools = [pool.name for pool in self.api.pools.list()]
        self._volumes = []
        self._snapshots = {}
        self.error = None

    def run(self):
        try:
            self._instances = self._find_instances()
            while self._book.another():
                self._one()
        except Exception as error:  # raised again by join()
            self.error = error

    def _one(self):
        operation = self._choose()
        try:
            outcome, words = getattr(self, operation)()
        except cinder_exceptions.ClientException as error:
            outcome, words = ledger.FAILED, f'{error.code} {error}'
        self._book.note(operation, outcome, words)

    def _choose(self):
        if not self._volumes:
            return 'create'
        if len(self._volumes) >= _MOST_VOLUMES:
            return 'delete'
        wanted = self._random.choice((
            'create', 'create', 'snapshot', 'snapshot', 'clone', 'extend',
            'retype', 'migrate', 'attach', 'delete', 'from_snapshot',
            'delete_snapshot'))
        if wanted in ('retype', 'migrate', 'delete') and not self._plain():
            return 'snapshot'
        if wanted.endswith('_snapshot') and not self._snapshots:
            return 'snapshot'
        return wanted

    # -- Operations; each returns what came of it, and words about that ------

    def create(self):
        return self._made(self.api.volumes.create(
            size=1, volume_type=self._random.choice(TYPES)))

    def clone(self):
        source = self._any()
        return self._made(self.api.volumes.create(
            size=source.size, source_volid=source.id), source.id)

    def from_snapshot(self):
        snapshot = self._random.choice(list(self._snapshots))
        return self._made(self.api.volumes.create(
            size=self.api.volume_snapshots.get(snapshot).size,
            snapshot_id=snapshot), snapshot)

    def snapshot(self):
        source = self._any()
        made = self.api.volume_snapshots.create(source.id)
        status = settled(self.api.volume_snapshots, made.id,
                         self._patience_seconds)
        if status != 'available':
            self._volumes.remove(source.id)
            return self._not_done(made, status)
        self._snapshots[made.id] = source.id
        self._book.content[made.id] = self._book.content.get(source.id)
        return ledger.DONE, ''

    def extend(self):
        volume = self._any()
        return self._changed(volume, ledger.Wish('extend', volume.size + 1))

    def retype(self):
        volume = self._any(self._plain())
        return self._changed(volume, ledger.Wish(
            'retype', self._random.choice(
                [one for one in TYPES if one != volume.volume_type])))

    def migrate(self):
        volume = self._any(self._plain())
        return self._changed(volume, ledger.Wish(
            'migrate', self._random.choice(
                [pool for pool in self._pools
                 if pool.partition('#')[2] != pool_of(volume)])))

    def attach(self):
        volume = self._any()
        instance = self._random.choice(self._instances)
        try:
            made = self.api.attachments.create(volume.id, {
                'platform': 'x86_64', 'os_type': 'linux', 'ip': '127.0.0.1',
                'host': 'sandbox', 'multipath': False, 'initiator': None,
                'instance': instance.moref, 'mountpoint': '/dev/sdb',
            }, instance.instance_uuid, mode='rw')
            made = made if isinstance(made, dict) else made.to_dict()
            self.api.attachments.complete(made['id'])
            self.api.attachments.delete(made['id'])
        except cinder_exceptions.ClientException:
            self._volumes.remove(volume.id)
            raise
        status = settled(self.api.volumes, volume.id, self._patience_seconds)
        if status != 'available':
            self._volumes.remove(volume.id)
            return self._not_done(volume, status)
        return ledger.DONE, ''

    def delete_snapshot(self):
        snapshot = self._random.choice(list(self._snapshots))
        del self._snapshots[snapshot]
        return self._deleted(self.api.volume_snapshots, snapshot)

    def delete(self):
        plain = self._plain()
        if not plain:
            return self.delete_snapshot()
        volume = self._random.choice(plain)
        self._volumes.remove(volume)
        return self._deleted(self.api.volumes, volume)

    # -- Parts of them -------------------------------------------------------

    def _made(self, volume, source=None):
        """A new volume, of which the content is known from now on."""
        status = settled(self.api.volumes, volume.id, self._patience_seconds)
        if status != 'available':
            return self._not_done(volume, status)
        if source is None:
            content = volume.id.encode()
            self._write(volume.id, content)
        else:
            content = self._book.content.get(source)
        self._book.content[volume.id] = content
        self._volumes.append(volume.id)
        return ledger.DONE, ''

    def _changed(self, volume, wish):
        """A change of a volume; it is left to the operator if not done."""
        self._book.wishes[volume.id] = wish
        ask(self.api, volume, wish)
        status = settled(self.api.volumes, volume.id, self._patience_seconds)
        now = self.api.volumes.get(volume.id)
        if status == 'available' and is_fulfilled(now, wish):
            del self._book.wishes[volume.id]
            self._book.moved += pool_of(now) != pool_of(volume)
            return ledger.DONE, ''
        self._volumes.remove(volume.id)
        return self._not_done(volume, status)

    def _deleted(self, collection, identifier):
        thing = collection.get(identifier)
        thing.delete()
        status = settled(collection, identifier, self._patience_seconds)
        if status == 'gone':
            return ledger.DONE, ''
        return self._not_done(thing, status)

    @staticmethod
    def _not_done(thing, status):
        outcome = ledger.FAILED if status in RESTING else ledger.STUCK
        return outcome, f'{thing.id} is {status}'

    def _any(self, among=None):
        return self.api.volumes.get(
            self._random.choice(among or self._volumes))

    def _plain(self):
        """Volumes without snapshots; Cinder's API refuses some others."""
        held = set(self._snapshots.values())
        return [volume for volume in self._volumes if volume not in held]

    def _find_instances(self):
        with inspection.Inspector(self._cloud.vcenter) as vcenter:
            return [machine for machine in vcenter.machines()
                    if machine.name.startswith('DC0_')]

    def _write(self, volume_id, content):
        """Also while the vCenter is starting again."""
        for attempt in range(30):
            try:
                return write(self._cloud.vcenter, self._control, volume_id,
                             content)
            except (OSError, requests.RequestException):
                if attempt == 29:
                    raise
                time.sleep(1)
