# SPDX-License-Identifier: Apache-2.0
"""Operations of the crash matrix: volumes and snapshots."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from oslo_utils import uuidutils

from cinder import exception
from cinder import objects

from cinder_vmdk_ext.tests.functional import backend_case


class Operation(NamedTuple):
    """What is cut off, and how a user goes on."""

    # Makes what there is before; gives the operation.
    prepare: Callable[[Any], 'Attempt']
    quick: bool = False  # part of make test


class Attempt(NamedTuple):
    """An operation on things that are there."""

    act: Callable[[], None]
    # Asks for it again after a failure; by default the same.
    again: Callable[[], None] | None = None
    # Afterwards: checksums of volumes' disks by id.
    expected: Callable[[], dict[str, str]] = dict


def source_volume(case, **fields):
    return case.create(content=backend_case.content('source'), **fields)


def _create(case):
    made, act, again = case.making(
        lambda volume: case.driver.create_volume(volume))
    return Attempt(act, again, lambda: {
        made[-1].id: case.checksum(made[-1])})


def copying(prepare):
    """Making a volume of another's content.

    :param prepare: gives how, of a source volume
    """
    def begin(case):
        source = source_volume(case)
        make = prepare(case, source)
        made, act, again = case.making(make)
        before = case.checksum(source)
        return Attempt(act, again, lambda: {source.id: before,
                                            made[-1].id: before})
    return begin


def _clone(case, source):
    return lambda volume: case.driver.create_cloned_volume(
        volume, case.fresh(source))


def _linked_clone(case, source):
    linked = case.volume_type(f'linked-{uuidutils.generate_uuid()}',
                              clone_type='linked')

    def make(volume):
        volume.volume_type_id = linked['id']
        volume.save()
        return case.driver.create_cloned_volume(volume, case.fresh(source))
    return make


def _from_snapshot(case, source):
    snapshot = case.snapshot(source)
    return lambda volume: case.driver.create_volume_from_snapshot(volume,
                                                                  snapshot)


def _snapshot(form):
    def begin(case):
        source = source_volume(case)
        before = case.checksum(source)
        taken = [case.new_snapshot(source)]

        def act():
            with case.format(form):
                update = case.driver.create_snapshot(taken[-1])
            taken[-1].update(update)
            taken[-1].status = 'available'
            taken[-1].save()

        def again():
            failed = objects.Snapshot.get_by_id(case.context, taken[-1].id)
            failed.status = 'error'
            failed.save()
            case.driver.delete_snapshot(failed)
            failed.destroy()
            taken.append(case.new_snapshot(source))
            act()
        return Attempt(act, again, lambda: {source.id: before})
    return begin


def _delete_snapshot(case):
    source = source_volume(case)
    before = case.checksum(source)
    snapshot = case.snapshot(source)

    def act():
        case.driver.delete_snapshot(snapshot)
        snapshot.destroy()
    return Attempt(act, None, lambda: {source.id: before})


def _revert(form):
    def begin(case):
        source = source_volume(case)
        before = case.checksum(source)
        with case.format(form):
            snapshot = case.snapshot(source)
        case.write(source, backend_case.content('after the snapshot'))

        def act():
            case.driver.revert_to_snapshot(case.context, case.fresh(source),
                                           snapshot)
        return Attempt(act, None, lambda: {source.id: before})
    return begin


def _delete(case):
    volume = source_volume(case)

    def act():
        case.driver.delete_volume(case.fresh(volume))
        volume.destroy()
    return Attempt(act)


def _changing(change, pool=None):
    """Changing a volume whose content stays.

    :param change: does it, given the case and the volume's record
    """
    def begin(case):
        volume = source_volume(case)
        sums: dict[str, str] = {}
        before = case.read(volume, 1 << 20)

        def act():
            now = case.fresh(volume)
            change(case, now)
            if pool is not None:
                now.host = f'{backend_case.HOST}#{pool}'
            now.save()

        def expected():
            if case.read(volume, 1 << 20) != before:
                raise AssertionError('other content')
            sums.update(case.sums(volume))
            return sums
        return Attempt(act, None, expected)
    return begin


def _extend(case, volume):
    case.driver.extend_volume(volume, 2)
    volume.size = 2
    assert case.truth(volume).size_gib == 2, 'not extended'


def _extend_moving(case, volume):
    rule = case.control.fault(method='ExtendVirtualDisk_Task', count=1,
                              task_fault={'type': 'NoDiskSpace'})
    try:
        _extend(case, volume)
    finally:
        case.control.remove_fault(rule)


def _retype(specs, pool):
    def change(case, volume):
        wanted = case.volume_type(f'type-{uuidutils.generate_uuid()}',
                                  **specs)
        if not case.driver.retype(case.context, volume, wanted, {},
                                  case.there(pool)):
            raise exception.VolumeBackendAPIException(data='not retyped')
        volume.volume_type_id = wanted['id']
    return change


def _migrate(case, volume):
    moved, _update = case.driver.migrate_volume(
        case.context, volume, case.there('LocalDS_2'))
    assert moved, 'not migrated'


def _migrate_attached(case):
    volume = source_volume(case)
    before = case.read(volume, 1 << 20)
    instance = case.attach(volume)

    def act():
        now = case.fresh(volume)
        _migrate(case, now)
        now.host = f'{backend_case.HOST}#LocalDS_2'
        now.save()

    def expected():
        device = case.disk_on(instance, volume)
        assert case.truth(volume).path == device.backing.fileName, (
            'the shadow VM names another file')
        assert case.read(volume, 1 << 20) == before, 'other content'
        return case.sums(volume)
    return Attempt(act, None, expected)


OPERATIONS = {
    'create': Operation(_create, quick=True),
    'clone': Operation(copying(_clone)),
    'clone (linked)': Operation(copying(_linked_clone)),
    'create from a snapshot': Operation(copying(_from_snapshot)),
    'snapshot (COW)': Operation(_snapshot('COW')),
    'snapshot (template)': Operation(_snapshot('template'), quick=True),
    'delete a snapshot': Operation(_delete_snapshot),
    'revert (COW)': Operation(_revert('COW')),
    'revert (template)': Operation(_revert('template'), quick=True),
    'extend': Operation(_changing(_extend)),
    'extend, and move': Operation(_changing(_extend_moving)),
    'retype in place': Operation(_changing(
        _retype({'adapter_type': 'paraVirtual'}, 'LocalDS_1'))),
    'retype by a copy': Operation(_changing(
        _retype({'vmdk_type': 'thick'}, 'LocalDS_1'))),
    'retype to another pool': Operation(_changing(
        _retype({'vmdk_type': 'thick', 'adapter_type': 'paraVirtual'},
                'LocalDS_2'), 'LocalDS_2')),
    'migrate': Operation(_changing(_migrate, 'LocalDS_2')),
    'migrate attached': Operation(_migrate_attached),
    'delete': Operation(_delete, quick=True),
}
