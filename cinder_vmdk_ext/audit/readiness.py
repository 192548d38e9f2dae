# SPDX-License-Identifier: Apache-2.0
"""Checks a backend, its vCenter and Cinder's configuration.

Each check reports its result in one sentence, and changes nothing.
"""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from oslo_config import cfg
from oslo_utils import units

from cinder import context as cinder_context
from cinder import exception
from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext import option_check
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext.vsphere import diagnosis
from cinder_vmdk_ext.vsphere import transport

SUCCESS, WARNING, FAILURE = 'success', 'warning', 'failure'
CERTIFICATE_DAYS = 30
SKEW_SECONDS = 60
# Pools need these two filters; the third stops a retry on the failed pool.
NEEDED_FILTERS = ('CapacityFilter', 'CapabilitiesFilter')
ADVISED_FILTER = 'IgnoreAttemptedHostsFilter'


class Result(NamedTuple):
    """The result of one check."""

    check: str
    result: str
    detail: str


def of_backend(backend: Any, section: str,
               options: Iterable[Any]) -> Iterator[Result]:
    """Run all checks of a backend that is connected.

    If a check cannot be carried out, its result is a failure.

    :param section: the backend's section in cinder.conf
    :param options: the options that the section may contain
    """
    # Each read takes several calls if the inventory is not kept in memory.
    inventory = functools.cache(backend.inventory)
    for name, check in (
            ('certificate', _certificate), ('clock', _clock),
            ('privileges', _privileges), ('clusters', _clusters),
            ('policies', _policies), ('pools', _pools),
            ('volume types', _types)):
        try:
            yield from (Result(name, *found)
                        for found in check(backend, inventory))
        except (exceptions.VMWARE_ERRORS, OSError) as error:
            yield Result(name, FAILURE, 'the check failed: '
                         + exceptions.first_line(error))
    mistakes = list(option_check.mistakes(section, options))
    yield from (Result('options', WARNING, each) for each in mistakes)
    if not mistakes:
        yield Result('options', SUCCESS, 'all options have known names')


def of_cinder(shared: bool) -> Iterator[Result]:
    """Check Cinder's own configuration.

    :param shared: whether several services serve one backend
    """
    names = explain.configured()
    try:
        explain.installed(names)
    except LookupError as error:
        yield Result('scheduler filters', FAILURE, str(error))
    missing = [each for each in NEEDED_FILTERS if each not in names]
    if missing:
        yield Result('scheduler filters', FAILURE,
                     f'scheduler_default_filters lacks {", ".join(missing)}')
    elif ADVISED_FILTER not in names:
        yield Result('scheduler filters', WARNING,
                     f'scheduler_default_filters lacks {ADVISED_FILTER}, '
                     'without which a retry may choose the same pool')
    else:
        yield Result('scheduler filters', SUCCESS, ', '.join(names))
    url = cfg.CONF.coordination.backend_url or ''
    scheme = url.partition(':')[0]
    if shared and scheme in ('', 'file'):
        yield Result('coordination', FAILURE,
                     f'[coordination] backend_url is of kind {scheme!r}, '
                     'which does not share locks between services on several '
                     'hosts')
    else:
        yield Result('coordination', SUCCESS, f'locks by {scheme or "none"}')


def of_sections(datastores: Mapping[str, Mapping[str, str]]
                ) -> Iterator[Result]:
    """Check whether backends share datastores.

    :param datastores: names of the datastores that are pools, by URL, of
        each backend
    """
    seen: dict[str, dict[str, str]] = {}
    for backend, urls in datastores.items():
        for url, name in urls.items():
            seen.setdefault(url, {})[backend] = name
    alike: dict[tuple[str, ...], list[str]] = {}
    for backends in seen.values():
        if len(backends) > 1:
            alike.setdefault(tuple(sorted(backends)), []).append(
                min(backends.values()))
    for sections, names in alike.items():
        yield Result('shared datastores', WARNING,
                     f'{", ".join(sections)} all use '
                     f'{exceptions.shortened(sorted(names))}; the scheduler '
                     'counts their free space once for each backend')
    if not alike:
        yield Result('shared datastores', SUCCESS,
                     'no datastore is a pool of two backends')


def datastores(backend: Any) -> dict[str, str]:
    """Names of the datastores that belong to a backend, by their URLs."""
    inventory, settings = backend.inventory(), backend.selection.settings
    refused = eligibility.refusals(inventory, settings)
    return {each.url: each.plain_name
            for each in inventory.datastores.values()
            if each.url and (each.moref not in refused
                             or refused[each.moref].passing)}


Found = Iterator[tuple[str, str]]
# Reads the inventory, or returns what was read before.
Read = Callable[[], model.Inventory]


def _certificate(backend: Any, inventory: Read) -> Found:
    options = backend.upstream.configuration
    days = diagnosis.certificate_days(
        options.vmware_host_ip, options.vmware_host_port, transport.Trust(
            options.vmware_ca_file, options.vmware_insecure))
    if days is None:
        yield WARNING, ('it is not verified (vmware_insecure), so that an '
                        'attacker on the network can read the password')
    else:
        yield (SUCCESS if days > CERTIFICATE_DAYS else WARNING,
               f'it is valid for {int(days)} more days')


def _clock(backend: Any, inventory: Read) -> Found:
    skew = diagnosis.clock_skew_seconds(backend.session, backend.client)
    yield (SUCCESS if abs(skew) < SKEW_SECONDS else WARNING,
           f"the vCenter's clock is {abs(skew):.1f} s "
           f'{"ahead" if skew > 0 else "behind"}')


def _privileges(backend: Any, inventory: Read) -> Found:
    checker = backend.privilege_checker(backend.session)
    lacks = checker.lacks()
    for each in lacks:
        yield (FAILURE if each.privilege.vital else WARNING,
               f'{checker.user} lacks {each}')
    if not lacks:
        yield SUCCESS, (f'{checker.user} has all privileges that '
                        'docs/privileges.md lists')


def _clusters(backend: Any, inventory: Read) -> Found:
    known, settings = inventory(), backend.selection.settings
    reached = known.hosts_in_reach(settings)
    live = len(reached & known.live_hosts)
    yield (SUCCESS if live == len(reached) and live else
           WARNING if live else FAILURE,
           f'{live} of {len(reached)} hosts of '
           f'{", ".join(settings.cluster_names) or "all clusters"} are '
           'connected and not in maintenance')


def _policies(backend: Any, inventory: Read) -> Found:
    known, settings = inventory(), backend.selection.settings
    for name in settings.storage_policies:
        count = len(known.compliant.get(name, ()))
        yield (SUCCESS if count else FAILURE, f'vmware_storage_profile '
               f'{name}: {count} of {len(known.datastores)} datastores '
               'comply')
    if not settings.storage_policies:
        yield SUCCESS, 'vmware_storage_profile names no policy'


def _pools(backend: Any, inventory: Read) -> Found:
    known, settings = inventory(), backend.selection.settings
    none = pool_stats.why_there_is_none(known, settings)
    if none:
        yield FAILURE, none
        return
    refused = eligibility.refusals(known, settings)
    passing = {known.datastores[moref].plain_name: why.reason
               for moref, why in refused.items() if why.passing}
    yield (SUCCESS, f'{len(known.datastores) - len(refused)} of '
           f'{len(known.datastores)} datastores take volumes')
    for name, reason in sorted(passing.items()):
        yield WARNING, f'{name} takes no volumes now: {reason}'


def _types(backend: Any, inventory: Read) -> Found:
    """Check which pools take a volume of 1 GiB of each volume type."""
    stats = backend.upstream.statistics()
    name = stats.get('volume_backend_name')
    known, settings = inventory(), backend.selection.settings
    service = explain.SchedulerService(
        backend.owner.host, backend.owner.cluster_name,
        cfg.CONF.storage_availability_zone)
    pinned = {pool['pool_name']: selector.pinned(pool['pool_name'], known,
                                                 settings)
              for pool in stats.get('pools') or ()}
    if not settings.datastore_pools:
        pinned = {name: None}
    for found in volume_types.get_all_types(
            cinder_context.get_admin_context()).values():
        specs = dict(found.get('extra_specs') or {})
        if specs.get('volume_backend_name', name) != name:
            continue
        title = f'type {found["name"]}'
        try:
            backend.admission.check_type(found['id'])
        except exception.Invalid as error:
            yield WARNING, f'{title} is refused: {error}'
            continue
        verdicts = explain.verdicts(
            stats, service,
            explain.Request(1, backend.ds_sel.requirement({
                selector.DatastoreSelector.SIZE_BYTES: units.Gi,
                selector.DatastoreSelector.PROFILE_NAME: specs.get(
                    extra_specs.POLICY),
                selector.THIN: extra_specs.is_thin(specs)}),
                found['name'], specs), pinned, known, settings,
            explain.configured()) if pinned else []
        takes = sum(each.takes for each in verdicts)
        words = f'{title}: {takes} of {len(verdicts)} pools take it'
        late = sum(bool(each.placement and not each.filters)
                   for each in verdicts)
        if late:
            words += (f'; the scheduler may choose {late} that the driver '
                      'refuses')
        yield SUCCESS if takes and not late else WARNING, words
