# SPDX-License-Identifier: Apache-2.0
"""What a switch from upstream's driver to this one does to each volume.

Nothing is changed. What the start of the service writes is worked out by the
code that writes it then.
"""

from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from cinder import exception
from cinder.volume import volume_utils

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import readiness
from cinder_vmdk_ext.scheduling import eligibility


class TakenOver(NamedTuple):
    """What becomes of one volume."""

    result: str  # as readiness.Result has it
    detail: str
    volume: str  # its id
    pool: str  # that its host names then
    changes: list[str]  # of its record


def of_backend(backend: Any) -> Iterator[TakenOver]:
    """What becomes of each volume of a backend that is connected.

    :raises VimFaultException, VimConnectionException: by oslo.vmware
    """
    reader = collect.EvidenceReader(backend)
    evidence = reader.without_files()
    assessor = _Assessor(backend, evidence)
    volumes = list(reader.volumes(each.id for each in evidence.volumes
                                  if each.mine).values())
    for found in backend.reconciler.foretell(volumes):
        volume = found.volume
        changes = {name: value for name, value in found.values.items()
                   if volume[name] != value}
        host = changes.get('host', volume['host']) or ''
        result, detail = assessor.of(volume)
        if found.why_not:
            detail = _and(found.why_not, detail)
            if result == readiness.SUCCESS:
                result = readiness.WARNING
        elif found.chosen:
            detail = _and('its pool is chosen by free space at the start',
                          detail)
        yield TakenOver(
            result, detail, volume['id'],
            volume_utils.extract_host(host, 'pool') or '',
            [f'{name} becomes {value}' for name, value in changes.items()])


class _Assessor:
    """What cannot be served after the switch, and why."""

    def __init__(self, backend: Any, evidence: compare.Evidence) -> None:
        self._backend = backend
        self._comparison = compare.Comparison(evidence)
        self._findings: dict[str, list[compare.Finding]] = {}
        for each in self._comparison.findings():
            self._findings.setdefault(each.owner, []).append(each)
        inventory = backend.inventory()
        self._places = {
            inventory.datastores[moref].plain_name: why.reason
            for moref, why in eligibility.refusals(
                inventory, backend.selection.settings).items()
            if not why.passing}
        self._types: dict[str | None, str] = {}

    def of(self, volume: Any) -> tuple[str, str]:
        """A result and its detail."""
        failures: list[str] = []
        warnings: list[str] = []
        vm = self._comparison.used(volume['id'])
        if volume['encryption_key_id']:
            failures.append('it is encrypted by Cinder or Nova, and cannot '
                            'be attached')
        if vm is None:
            failures += self._of_missing(volume)
        else:
            if not vm.disk_count:
                failures.append(f'its VM {vm.moref} has no disk')
            why = self._places.get(vm.place, '' if vm.pool else
                                   'the backend does not know it')
            if why:
                warnings.append(
                    f'its disk is on {vm.place or "an unknown datastore"}, '
                    f'which gets no new volumes ({why}); it stays there, and '
                    'the scheduler has no such pool')
        refused = self._refusal(volume['volume_type_id'])
        if refused:
            warnings.append('of its type no new volumes are made: ' + refused)
        warnings += [f'{each.kind}: {each.detail}' for each
                     in self._findings.get(volume['id'], ())
                     if each.kind in ('at-risk', 'shared', 'duplicated',
                                      'stuck')]
        result = (readiness.FAILURE if failures else readiness.WARNING
                  if warnings else readiness.SUCCESS)
        return result, '; '.join(failures + warnings)

    def _of_missing(self, volume: Any) -> list[str]:
        """What is wrong with a volume that has no VM."""
        lost = [each.detail for each
                in self._findings.get(volume['id'], ())
                if each.kind == 'lost']
        traces = self._comparison.traces(volume['id'])
        if lost:
            return ['it is lost: ' + lost[0]]
        if traces != compare.NO_TRACE:
            return ['it has no VM, and there may have been one: ' + traces]
        return (['it is attached, and has no VM']
                if volume['status'] == 'in-use' else [])

    def _refusal(self, type_id: str | None) -> str:
        if type_id not in self._types:
            self._types[type_id] = ''
            try:
                self._backend.admission.check_type(type_id)
            except exception.Invalid as error:
                self._types[type_id] = str(error)
        return self._types[type_id]


def _and(one: str, other: str) -> str:
    return '; '.join(filter(None, (one, other)))
