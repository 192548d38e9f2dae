# SPDX-License-Identifier: Apache-2.0
"""Reads a few columns of many volumes from Cinder's database.

Cinder's own objects of so many volumes take seconds to load. This is the only
module that reads Cinder's tables itself, and it changes none: it selects the
columns that it names here, by Cinder's own models and engine
(docs/decisions/13-columns.md). Where Cinder's models lack one of them, it
reads Cinder's objects, page by page.
"""

import dataclasses
import datetime
import functools
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_db import exception as db_exception
from oslo_log import log as logging
import sqlalchemy
from sqlalchemy import exc as sqlalchemy_exc

from cinder import context as cinder_context
from cinder import objects

try:
    from cinder.db.sqlalchemy import api as db  # until Cinder 28
    from cinder.db.sqlalchemy import models
except ImportError:
    from cinder.db import api as db
    from cinder.db import models

from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config

LOG = logging.getLogger(__name__)

#: What Cinder's database raises. oslo.db passes some errors of SQLAlchemy on,
#: such as that of a database that is locked.
DATABASE_ERRORS = (db_exception.DBError, sqlalchemy_exc.SQLAlchemyError)

#: The columns that are read of the table of volumes. ``_name_id`` is that of
#: a volume that has another volume's disk, after a migration.
VOLUME = ('id', '_name_id', 'display_name', 'project_id', 'host',
          'cluster_name', 'size', 'status', 'migration_status', 'provider_id',
          'provider_location', 'volume_type_id', 'created_at', 'updated_at')
#: The columns that are read of the table of attachments.
ATTACHMENT = ('volume_id', 'instance_uuid')
#: Those of :func:`without_disk`.
DISKLESS = ('id', 'status', 'host', 'cluster_name', 'provider_id',
            'provider_location', 'size')
#: The columns that only choose rows.
CHOOSING = ('deleted', 'attach_status')
# Reading so many rows takes about 8 ms.
ROWS_A_PAGE = 250
# Reading so many of Cinder's objects takes about 46 ms.
OBJECTS_A_PAGE = 20


class AttachmentRow(NamedTuple):
    """An attachment of a volume."""

    instance_uuid: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeRow:
    """What is read of a volume, with the names of Cinder's object.

    A time has no time zone; it is in UTC.
    """

    id: str
    name_id: str
    display_name: str | None
    project_id: str | None
    host: str | None
    cluster_name: str | None
    size: int
    status: str | None
    migration_status: str | None
    provider_id: str | None
    provider_location: str | None
    volume_type_id: str | None
    created_at: datetime.datetime | None
    updated_at: datetime.datetime | None
    volume_attachment: tuple[AttachmentRow, ...]

    @property
    def name(self) -> str:
        """The name of its shadow VM, by Cinder's template of names."""
        return config.name_patterns().volume_name(self.name_id)

    def __getitem__(self, field: str) -> Any:
        return getattr(self, field)

    def get(self, field: str, default: Any = None) -> Any:
        """A field, as Cinder's object returns it."""
        return getattr(self, field, default)


def volumes(ids: Collection[str] | None = None,
            **fields: str) -> Iterator[VolumeRow]:
    """Yield volumes that are not deleted, ordered by id.

    Reads page by page; other greenthreads run between two pages. What changes
    meanwhile may be seen or not.

    :param ids: only volumes with these ids; None: all
    :param fields: values of columns that they must have
    """
    if ids is None:
        yield from _pages(None, fields)
        return
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), ROWS_A_PAGE):
        if start:
            concurrency.cooperative_yield()
        yield from _pages(ordered[start:start + ROWS_A_PAGE], fields)


def without_disk(provider_id: str) -> Iterator[dict[str, Any]]:
    """Yield the volumes that have no disk, or may have none yet.

    As :func:`volumes`, with the columns ``DISKLESS`` only.

    :param provider_id: of those that have none; all that are being created
        are yielded as well
    """
    if not has_columns():
        # First those that are created: one that gets the id meanwhile is
        # then among both, and never left out.
        yield from {row.id: {name: row[name] for name in DISKLESS}
                    for fields in ({'status': 'creating'},
                                   {'provider_id': provider_id})
                    for row in volumes(None, **fields)}.values()
        return
    table = models.Volume
    chosen = [*_conditions({}), (table.provider_id == provider_id)
              | (table.status == 'creating')]
    marker: list[Any] = []
    while True:
        page = _select(sqlalchemy.select(
            *(getattr(table, column) for column in DISKLESS)).where(
                *chosen, *(table.id > last for last in marker)
        ).order_by(table.id).limit(ROWS_A_PAGE))
        for row in page:
            yield dict(zip(DISKLESS, row, strict=True))
        if len(page) < ROWS_A_PAGE:
            return
        marker = [page[-1][0]]
        concurrency.cooperative_yield()


def attached_to(instances: Iterable[str]) -> dict[str, set[str]]:
    """Ids of the volumes that are attached to instances, or about to be.

    :param instances: their UUIDs
    :returns: by the instance's UUID in lower case; one without volumes is
        left out
    """
    found: dict[str, set[str]] = {}
    ordered = sorted(set(instances))
    for start in range(0, len(ordered), ROWS_A_PAGE):
        concurrency.cooperative_yield()
        for volume_id, uuid in _attached_to(
                ordered[start:start + ROWS_A_PAGE]):
            found.setdefault(uuid.lower(), set()).add(volume_id)
    return found


@functools.cache
def has_columns() -> bool:
    """Whether Cinder's models have all columns that are read here.

    If not, a warning is logged, once.
    """
    lacking = [f'{table}.{column}' for table, columns in (
        ('Volume', (*VOLUME, CHOOSING[0])),
        ('VolumeAttachment', (*ATTACHMENT, *CHOOSING)))
        for column in columns
        if not hasattr(getattr(models, table, None), column)]
    if not lacking and hasattr(db, 'main_context_manager'):
        return True
    LOG.warning("Cinder's models lack %s, so that its volumes are read as "
                'objects, which takes longer.',
                ', '.join(lacking) or 'an engine')
    return False


def _select(statement: Any) -> list[Any]:
    """The rows of a query; the transaction only reads."""
    context = cinder_context.get_admin_context()
    with db.main_context_manager.reader.using(context) as session:
        return list(session.execute(statement).all())


def _conditions(fields: dict[str, str]) -> list[Any]:
    return [models.Volume.deleted == sqlalchemy.false(), *(
        getattr(models.Volume, field) == value
        for field, value in fields.items())]


def _pages(ids: list[str] | None,
           fields: dict[str, str]) -> Iterator[VolumeRow]:
    """Yield volumes page by page, each page by the last id of the former."""
    read = _rows if has_columns() else _objects
    size = ROWS_A_PAGE if has_columns() else OBJECTS_A_PAGE
    marker = None
    while True:
        page = read(ids, marker, size, fields)
        yield from page
        if len(page) < size:
            return
        marker = page[-1].id
        concurrency.cooperative_yield()


def _rows(ids: list[str] | None, marker: str | None, size: int,
          fields: dict[str, str]) -> list[VolumeRow]:
    table = models.Volume
    conditions = _conditions(fields)
    if ids is not None:
        conditions.append(table.id.in_(ids))
    if marker is not None:
        conditions.append(table.id > marker)
    found = _select(
        sqlalchemy.select(*(getattr(table, column) for column in VOLUME))
        .where(*conditions).order_by(table.id).limit(size))
    here = _attachments([row[0] for row in found]) if found else {}
    return [VolumeRow(*(volume_id, name_id or volume_id, *rest,
                        here.get(volume_id, ())))
            for volume_id, name_id, *rest in found]


def _attachments(ids: list[str]) -> dict[str, tuple[AttachmentRow, ...]]:
    """The attachments of volumes, by the volume's id."""
    table = models.VolumeAttachment
    found: dict[str, tuple[AttachmentRow, ...]] = {}
    for volume_id, uuid in _select(
            sqlalchemy.select(*(getattr(table, column)
                                for column in ATTACHMENT))
            .where(table.deleted == sqlalchemy.false(),
                   table.volume_id.in_(ids))):
        found[volume_id] = (*found.get(volume_id, ()), AttachmentRow(uuid))
    return found


def _attached_to(uuids: list[str]) -> list[Any]:
    if not has_columns():
        context = cinder_context.get_admin_context()
        return [(each.volume_id, uuid) for uuid in uuids
                for each in objects.VolumeAttachmentList
                .get_all_by_instance_uuid(context, uuid)]
    table = models.VolumeAttachment
    return _select(
        sqlalchemy.select(*(getattr(table, column) for column in ATTACHMENT))
        .where(table.deleted == sqlalchemy.false(),
               table.attach_status != 'detached',
               table.instance_uuid.in_(uuids)))


# -- Without the columns ------------------------------------------------------

def _objects(ids: list[str] | None, marker: str | None, size: int,
             fields: dict[str, str]) -> list[VolumeRow]:
    filters: dict[str, Any] = dict(fields)
    if ids is not None:
        filters['id'] = ids
    return [_row(volume) for volume in objects.VolumeList.get_all(
        cinder_context.get_admin_context(), marker=marker, limit=size,
        sort_keys=['id'], sort_dirs=['asc'], filters=filters)]


def _row(volume: Any) -> VolumeRow:
    return VolumeRow(*(
        volume.id, volume.name_id,
        *(volume[column] for column in VOLUME[2:]),
        tuple(AttachmentRow(each.instance_uuid)
              for each in volume.volume_attachment)))
