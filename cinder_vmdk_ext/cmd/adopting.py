# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext volume adopt``."""

import argparse
import codecs
import csv
import functools
import hashlib
import io
import json
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from oslo_db import api as oslo_db_api
from oslo_utils import strutils
from oslo_utils import timeutils
from oslo_utils import units

from cinder import context as cinder_context
from cinder import exception
from cinder import objects
from cinder.volume import volume_types

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import volume_rows

#: Admin metadata of an adopted volume: the reference by which it was adopted.
#: A project can write a volume's metadata, but not its admin metadata.
ADOPTED = 'vmdk-ext.adopted-from'
POLL_SECONDS = 1.0
MOST_BYTES = 16 * units.Mi
MOST_ROWS = 10000
#: Managing a disk takes seconds. If a record says so for longer, its service
#: may have stopped.
STUCK_SECONDS = 600.0
_FIELDS = ('source_name', 'source_id', 'name', 'description', 'type',
           'bootable', 'availability_zone', 'project')
# Cinder's limit for a value of metadata.
_MOST_LETTERS = 255
_UNDER_WAY = ('creating', 'managing')
# Cinder deletes only such a volume without its disk.
_NOT_MANAGED = 'error_managing'
_NOT_MANAGED_DELETING = 'error_managing_deleting'
_ERRORS = (exceptions.VMWARE_ERRORS, exception.CinderException)


class _Pairs(tuple[Any, ...]):
    """The fields of a row, each a name with its value, in their order."""


class Wanted(NamedTuple):
    """One row of the list."""

    number: int
    source_name: str = ''
    source_id: str = ''
    name: str = ''
    description: str = ''
    type: str = ''
    bootable: bool = False
    availability_zone: str = ''
    project: str = ''

    @property
    def reference(self) -> dict[str, str]:
        """The reference for ``cinder manage``."""
        return ({'source-name': self.source_name} if self.source_name
                else {'source-id': self.source_id})

    @property
    def source(self) -> str:
        """The disk, as the list names it."""
        return self.source_name or self.source_id

    @property
    def mark(self) -> str:
        """The value in the volume's admin metadata."""
        if len(self.source) <= _MOST_LETTERS:
            return self.source
        return 'sha256:' + hashlib.sha256(self.source.encode()).hexdigest()


def decoded(data: bytes) -> str:
    """The text of a list's file, which is UTF-8.

    :raises ValueError: it is too long, or in another encoding
    """
    if len(data) > MOST_BYTES:
        raise ValueError('the list is longer than '
                         f'{columns.size(MOST_BYTES)}; split it')
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError('the list is UTF-16 text; save it as UTF-8')
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise ValueError(f'line {line} of the list is not UTF-8 text; save '
                         'the list as UTF-8') from None


def read(text: str) -> list[Wanted]:
    """The rows of a list: JSON, or CSV with a line of titles.

    :raises ValueError: a sentence that names the row and what is wrong
    """
    rows = (_of_json(text) if text.lstrip()[:1] in ('[', '{')
            else _of_csv(text))
    if not rows:
        raise ValueError('the list has no rows')
    if len(rows) > MOST_ROWS:
        raise ValueError(f'the list has {len(rows)} rows; split it into '
                         f'lists of {MOST_ROWS} rows')
    found = [_row(number, each) for number, each in enumerate(rows, 1)]
    sources: dict[str, int] = {}
    for each in found:
        if each.source in sources:
            raise ValueError(f'rows {sources[each.source]} and {each.number} '
                             f'both name {each.source!r}')
        sources[each.source] = each.number
    return found


def _of_json(text: str) -> list[_Pairs]:
    try:
        rows = json.loads(text, object_pairs_hook=_Pairs)
    except RecursionError:
        raise ValueError('the JSON is nested too deep; it has to be a list '
                         'of objects') from None
    except ValueError as error:
        raise ValueError(f'the list is not JSON: {error}') from None
    if not isinstance(rows, list) or not all(
            isinstance(each, _Pairs) for each in rows):
        raise ValueError('the JSON has to be a list of objects')
    return rows


def _of_csv(text: str) -> list[_Pairs]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True)
                 if line]
    except csv.Error as error:
        raise ValueError(f'the list is not CSV: {error}') from None
    titles = lines[0] if lines else []
    for number, line in enumerate(lines[1:], 1):
        if len(line) > len(titles):
            raise ValueError(f'row {number} has more values than there are '
                             'titles')
    return [_Pairs(zip(titles, line)) for line in lines[1:]]


def _row(number: int, given: _Pairs) -> Wanted:
    values: dict[str, Any] = {}
    for key, value in given:
        name = key.strip().replace('-', '_')
        if name not in _FIELDS:
            raise ValueError(f'row {number} has the field {name!r}; there '
                             f'are {", ".join(_FIELDS)}')
        if name in values:
            raise ValueError(f'row {number} has the field {name!r} twice')
        values[name] = value
    texts = {name: _text(number, name, value)
             for name, value in values.items()}
    if not any(texts.values()):
        raise ValueError(f'row {number} is empty')
    try:
        bootable = strutils.bool_from_string(
            texts.pop('bootable', '') or 'false', strict=True)
    except ValueError:
        raise ValueError(f'row {number}: bootable is neither true nor '
                         'false') from None
    row = Wanted(number, bootable=bootable, **texts)
    if bool(row.source_name) == bool(row.source_id):
        raise ValueError(f'row {number} has to give either source_name or '
                         'source_id')
    return row


def _text(number: int, name: str, value: Any) -> str:
    """A value as text; None is the empty text."""
    if not isinstance(value, str | bool | int | None):
        raise ValueError(f'row {number}: {name} is neither a text nor a '
                         'number')
    text = '' if value is None else str(value).strip()
    if columns.visible(text) != text:
        raise ValueError(f'row {number}: {name} has a character that cannot '
                         f'be printed: {columns.visible(text)!r}')
    if name not in ('source_name', 'source_id') and (
            len(text) > _MOST_LETTERS):
        raise ValueError(f'row {number}: {name} has {len(text)} characters; '
                         f'Cinder takes {_MOST_LETTERS}')
    return text


class AdoptVolume(command.Listing):
    """Manage the disks of a list as volumes, one after another.

    The list is JSON (a list of objects) or CSV with a line of titles:
    source_name (or source_id) as for cinder manage, and, if wanted, name,
    description, type, bootable, availability_zone, project. The command makes
    the driver's own checks of each row, and then manages the row through
    Cinder's API, in the cloud of the environment (OS_CLOUD, or OS_AUTH_URL
    and the other variables), as a user who may manage volumes. A row that
    fails does not stop the others. The command may be interrupted and
    repeated: it finds adopted volumes by their admin metadata
    vmdk-ext.adopted-from. The list is UTF-8 text of at most 16 MiB and 10,000
    rows. Exits with 1 if a row failed, and in a dry run with 3 if a row would
    be refused.
    """

    COLUMNS = (
        columns.Column('row', 'Row'),
        columns.Column('source', 'Disk'),
        columns.Column('name', 'Name'),
        columns.Column('size_bytes', 'Size', columns.size),
        columns.Column('pool', 'Pool'),
        columns.Column('id', 'ID', long=True),
        columns.Column('done', 'Done'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='FILE',
                            help='the list; - for standard input')
        parser.add_argument(
            '--wait', metavar='SECONDS', default=600.0,
            type=command.number('seconds', '600'),
            help='how long a row may take (default: 600)')
        command.add_confirmation(
            parser, 'only show for each row whether it can be managed')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read the list, check each row, ask, manage each."""
        names = self.names(parsed_args)
        with self.calling(ValueError, OSError):
            if len(names) > 1:
                raise ValueError('there are several backends; name one with '
                                 '--backend')
            wanted = read(decoded(self._data(parsed_args.file)))
        with self.app.backends.opened(names[0]) as opened:
            is_busy = functools.partial(self._is_busy, opened)
            checked = [_Row(opened, each, is_busy) for each in wanted]
            places: dict[tuple[str, str], int] = {}
            for each in checked:
                each.check(places)
            ready = [each for each in checked if not each.done]
            if parsed_args.dry_run:
                for each in ready:
                    each.done = 'would be managed'
                self.app.found = any(each.refused for each in checked)
            elif ready and not self.agreed(
                    parsed_args,
                    f'Manage {len(ready)} of {len(checked)} disks?'):
                for each in ready:
                    each.done = 'left'
            else:
                self._adopt(ready, parsed_args.wait)
                self.app.failed = any(each.refused for each in checked)
        return [each.row for each in checked]

    def _data(self, name: str) -> bytes:
        """The content of a file; if it is too long, a part that shows it."""
        if name == '-':
            stdin = self.app.stdin
            found = getattr(stdin, 'buffer', stdin).read(MOST_BYTES + 1)
            return found if isinstance(found, bytes) else found.encode()
        with open(name, 'rb') as file:
            return file.read(MOST_BYTES + 1)

    def _is_busy(self, opened: Any, volume_id: str) -> bool:
        """Whether an operation may be working on a volume."""
        with self.app.backends.locking():
            if opened.is_managing():
                return True
            with locks.volume_if_free(volume_id) as had:
                return not had

    def _adopt(self, ready: list['_Row'], wait_seconds: float) -> None:
        connect = self.app.backends.volume_api
        try:
            for number, each in enumerate(ready, 1):
                if self.app.stderr.isatty():
                    self.app.stderr.write(
                        f'{number} of {len(ready)}: '
                        f'{columns.visible(each.wanted.source)}\n')
                each.adopt(connect, wait_seconds)
        except KeyboardInterrupt:
            for each in ready:
                if not each.done:
                    each.refuse('not begun: interrupted' if not each.id else
                                'interrupted while Cinder was working on it')


class _Row:
    """One row, and its result."""

    def __init__(self, opened: Any, wanted: Wanted,
                 is_busy: Callable[[str], bool]) -> None:
        """:param is_busy: whether an operation may be working on a volume"""
        self._opened = opened
        self.wanted = wanted
        self._is_busy = is_busy
        self.id = ''
        self.done = ''
        self.refused = False
        self._size_gib: int | None = None
        self._pool = ''
        self._type: dict[str, Any] = {}

    @property
    def row(self) -> columns.Row:
        """For the listing."""
        return (self.wanted.number, self.wanted.source, self.wanted.name,
                None if self._size_gib is None
                else self._size_gib * units.Gi, self._pool, self.id,
                self.done)

    def refuse(self, why: str) -> None:
        """Note that it was not managed, and why."""
        self.done, self.refused = why, True

    def check(self, places: dict[tuple[str, str], int]) -> None:
        """Whether it can be managed, by the driver's own checks.

        :param places: the disks of the rows before, with their numbers; this
            row's disk is added
        """
        try:
            if not self._was_adopted():
                self._check(places)
        except _ERRORS as error:
            self.refuse('refused: ' + exceptions.first_line(error))

    def _check(self, places: dict[tuple[str, str], int]) -> None:
        context = cinder_context.get_admin_context()
        self._type = (
            volume_types.get_by_name_or_id(context, self.wanted.type)
            if self.wanted.type else
            volume_types.get_default_volume_type(context) or {})
        type_id = self._type.get('id')
        disk = self._opened.manage.examine({'volume_type_id': type_id},
                                           self.wanted.reference)
        first = places.setdefault(disk.place, self.wanted.number)
        if first != self.wanted.number:
            self.refuse(f'refused: row {first} names the same disk')
            return
        self._opened.admission.check_size(disk.size_gib)
        self._opened.admission.check_type(type_id)
        self._size_gib = disk.size_gib
        settings = self._opened.selection.settings
        self._pool = (pool_names.by_datastore(
            self._opened.inventory(), settings).get(disk.datastore)
            if settings.datastore_pools else None) or settings.backend_name

    def _was_adopted(self) -> bool:
        """Whether an earlier run has managed it, or tried to."""
        found: Iterable[Any] = objects.VolumeList.get_all(
            cinder_context.get_admin_context(),
            filters={'metadata': {ADOPTED: self.wanted.mark}})
        # The filter also finds metadata that a project has written, and
        # another vCenter may have a disk of the same name.
        found = [each for each in found if self._opened.owner.owns(each)
                 and each.admin_metadata.get(ADOPTED) == self.wanted.mark]
        for volume in found:
            self.id, self._size_gib = volume.id, volume.size
            if volume.status in _UNDER_WAY or 'deleting' in volume.status:
                self.refuse(f'volume {volume.id} is {volume.status}'
                            + self._remedy(volume))
            elif volume.status == _NOT_MANAGED:
                self.refuse(f'volume {volume.id} is {volume.status} since an '
                            'earlier run; delete it, and repeat')
            elif volume.status.startswith('error'):
                # Its disk may have data, so no remedy here deletes it.
                self.refuse(f'managed already, but volume {volume.id} is '
                            f'{volume.status} now')
            else:
                self.done = 'managed already'
        return bool(self.id)

    def _remedy(self, volume: Any) -> str:
        """What to do with a volume that is being managed or deleted."""
        since = volume.updated_at or volume.created_at
        seconds = timeutils.delta_seconds(
            timeutils.normalize_time(since), timeutils.utcnow())
        if seconds < STUCK_SECONDS or self._is_busy(volume.id):
            return '; wait, and repeat'
        age = f' for {columns.duration(seconds)}'
        if volume.status in ('managing', _NOT_MANAGED_DELETING):
            # Such a record is deleted without the data of its disk.
            return (f'{age}, and no operation holds a lock on it. If its '
                    'service has stopped: cinder reset-state --state '
                    f'{_NOT_MANAGED} {volume.id}, cinder delete {volume.id}, '
                    'which gives the disk back, and repeat')
        return (f'{age}, and no operation holds a lock on it; see whether its '
                'service runs, and repeat')

    def adopt(self, connect: Any, wait_seconds: float) -> None:
        """Manage it through Cinder's API, and wait for the end."""
        try:
            api = connect(self.wanted.project)
            self.id = api.manage(
                host=_host(self._opened, self._pool),
                ref=self.wanted.reference, name=self.wanted.name or None,
                description=self.wanted.description or None,
                volume_type=self._type.get('id'),
                availability_zone=self.wanted.availability_zone or None,
                bootable=self.wanted.bootable)
            self._mark()
            status = self._ended(api, wait_seconds)
        except volume_rows.DATABASE_ERRORS as error:
            self.refuse(f'volume {self.id} is being managed, but the database '
                        'did not record its disk, so that a repeat does not '
                        'know it; wait until it is available, and take it '
                        f'off the list: {exceptions.first_line(error)}')
            return
        except exceptions.VolumeApiFailed as error:
            self.refuse(f'failed: {error}')
            return
        except exception.VolumeNotFound:
            self.refuse(f'failed: the database of this cinder.conf has no '
                        f'volume {self.id}, which the API made; is it the API '
                        'of another cloud?')
            return
        if status == 'available':
            self.done = 'managed'
        elif status in _UNDER_WAY:
            # It may still succeed, and a volume that is deleted then loses
            # its disk.
            self.refuse(f'volume {self.id} is {status} after '
                        f'{wait_seconds:.0f} s; wait, and repeat')
        else:
            self.refuse(
                f'failed: volume {self.id} is {status}; see cinder '
                f'message-list --resource_uuid {self.id}' + (
                    ', delete the volume, and repeat'
                    if status == _NOT_MANAGED else ''))

    @oslo_db_api.wrap_db_retry(
        max_retries=6, retry_interval=0.5,
        exception_checker=lambda error: isinstance(
            error, volume_rows.DATABASE_ERRORS))
    def _mark(self) -> None:
        """Record the source at the volume, so that a later run finds it.

        It is tried again: the volume is already being managed, and to write
        the mark twice does no harm.
        """
        volume = objects.Volume.get_by_id(
            cinder_context.get_admin_context(), self.id)
        volume.admin_metadata_update({ADOPTED: self.wanted.mark}, False)

    def _ended(self, api: Any, wait_seconds: float) -> str:
        deadline = time.monotonic() + wait_seconds
        while True:
            status: str = api.status(self.id)
            if status not in _UNDER_WAY or time.monotonic() >= deadline:
                return status
            time.sleep(POLL_SECONDS)


def _host(opened: Any, pool: str) -> str:
    """The host that Cinder's API is to manage a disk on."""
    host, cluster = opened.owner
    if cluster:
        services: Iterable[Any] = objects.ServiceList.get_all(
            cinder_context.get_admin_context(),
            {'binary': 'cinder-volume', 'disabled': False})
        host = next((each.host for each in services
                     if each.cluster_name == cluster and each.is_up), host)
    return f'{host}#{pool}'
