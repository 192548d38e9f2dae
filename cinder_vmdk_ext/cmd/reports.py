# SPDX-License-Identifier: Apache-2.0
"""Saved reports of an audit, and what has changed since one.

The file is JSON with a version. It has the findings, and no user, password or
address of the vCenter.
"""

import datetime
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from oslo_serialization import jsonutils

FORMAT = 'cinder-vmdk-ext audit'
VERSION = 1
MOST_BYTES = 1 << 28
NEW, KEPT, GONE = 'new', 'as before', 'gone'

Finding = Mapping[str, Any]


def identity(finding: Finding) -> tuple[Any, ...]:
    """What stays of a finding as long as it is the same one."""
    return tuple(finding[key] for key in ('backend', 'kind', 'reference'))


def dump(backends: Iterable[str], findings: Iterable[Finding],
         now: datetime.datetime) -> str:
    """The text of a report.

    :param backends: those that were audited
    """
    return str(jsonutils.dumps({
        'format': FORMAT, 'version': VERSION, 'saved_at': now.isoformat(),
        'backends': sorted(backends), 'findings': list(findings)},
        indent=1, sort_keys=True)) + '\n'


def load(text: str, keys: Iterable[str]
         ) -> tuple[frozenset[str], list[dict[str, Any]]]:
    """The backends of a report, and its findings.

    :param keys: those that each finding has to have
    :raises ValueError: it is no report, or one of another version
    """
    if len(text) > MOST_BYTES:
        raise ValueError('the report is too long')
    wanted = set(keys)
    try:
        found = jsonutils.loads(text)
        if found['format'] != FORMAT or not isinstance(
                found['findings'], list):
            raise ValueError(f'its format is {found["format"]!r}')
        version = found['version']
        if version == VERSION:
            for each in found['findings']:
                if wanted - set(each):
                    raise ValueError('a finding lacks '
                                     + ', '.join(sorted(wanted - set(each))))
            return frozenset(found['backends']), found['findings']
    except (ValueError, TypeError, KeyError, AttributeError,
            RecursionError) as error:
        raise ValueError('the file was not written by "audit --save", or is '
                         f'incomplete: {error}') from None
    raise ValueError(f'the report has version {version!r}; this release '
                     f'reads version {VERSION}')


def compared(now: Iterable[Finding], before: Iterable[dict[str, Any]],
             backends: Iterable[str]
             ) -> tuple[list[str], list[dict[str, Any]]]:
    """What has changed since a report.

    :param backends: those that are audited now
    :returns: of each present finding whether it is new, in order, and the
        former ones of these backends that are gone
    """
    former = {identity(each): each for each in before}
    found = [identity(each) for each in now]
    audited = set(backends)
    present = set(found)
    return ([KEPT if each in former else NEW for each in found],
            [each for key, each in former.items()
             if key not in present and each['backend'] in audited])
