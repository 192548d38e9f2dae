# SPDX-License-Identifier: Apache-2.0
"""Provides Cinder's database for a test, in a file of SQLite."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from typing import Any

import fixtures
from oslo_config import cfg
from oslo_db.sqlalchemy import engines
from oslo_utils import uuidutils
import sqlalchemy
from sqlalchemy import event
from sqlalchemy import pool

from cinder import context
from cinder import exception
from cinder import objects
from cinder.volume import group_types
from cinder.volume import volume_types

try:
    from cinder.db.sqlalchemy import api  # until Cinder 28
except ImportError:
    from cinder.db import api

from sandbox import configuration

EMPTY = configuration.empty_database_file()
# One engine for all databases of a process, since each engine compiles each
# statement anew: that was a sixth of the functional tests' processor time.
_engine: Any = None


class Database(fixtures.Fixture):
    """An empty database behind Cinder's objects, as long as a test runs."""

    def _setUp(self):
        objects.register_all()
        folder = tempfile.mkdtemp(prefix='cinder-db-')
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, 'cinder.sqlite')
        made = EMPTY.exists()
        if made:
            shutil.copyfile(EMPTY, path)
        engine = _engine or _make_engine(path)
        # Tests hand this URL to other processes, too.
        self.addCleanup(setattr, engine, 'url', engine.url)
        engine.url = engine.url.set(database=path)
        # A thread may have opened the one before this since that was closed.
        engine.dispose()
        self.addCleanup(engine.dispose)
        # It opens the database of the configuration before it takes another.
        cfg.CONF.set_default('connection', 'sqlite://', 'database')
        self.addCleanup(api.main_context_manager.patch_engine(engine))
        if not made:
            _make_tables(engine, path)
        self.context = context.RequestContext(
            'user', uuidutils.generate_uuid(dashed=False), is_admin=True)

    def volume_type(self, name, **specs):
        """A volume type with extra specs of the scope ``vmware``."""
        return volume_types.create(
            self.context, name, {f'vmware:{key}': value
                                 for key, value in specs.items()})

    def volume(self, size_gib=1, host='cinder-1@vmdk#LocalDS_0', **fields):
        """A volume in the form that a driver gets from Cinder's manager."""
        if 'volume_type_id' not in fields:
            fields['volume_type_id'] = self._plain_type_id()
        made = objects.Volume(self.context, **{
            'size': size_gib, 'host': host, 'status': 'creating',
            'user_id': 'user', 'project_id': self.context.project_id,
            'display_name': 'a volume', 'availability_zone': 'nova'} | fields)
        made.create()
        return made

    def snapshot(self, volume):
        """A snapshot in the form that a driver gets from Cinder's manager."""
        made = objects.Snapshot(
            self.context, volume_id=volume.id, volume_size=volume.size,
            status='creating', user_id='user', progress='0%',
            project_id=volume.project_id, display_name='a snapshot',
            volume_type_id=volume.volume_type_id)
        made.create()
        return objects.Snapshot.get_by_id(self.context, made.id)

    def group(self, kind, host, **specs):
        """A generic group with its own group type, which has these specs."""
        made = objects.Group(
            self.context, status='available', user_id='user',
            group_type_id=group_types.create(self.context, kind, specs).id,
            project_id=self.context.project_id, host=host, name='a group')
        made.create()
        made.volume_types = objects.VolumeTypeList(objects=[])
        return made

    def _plain_type_id(self):
        try:
            return volume_types.get_by_name_or_id(self.context, 'plain')['id']
        except exception.VolumeTypeNotFoundByName:
            return self.volume_type('plain')['id']


@contextlib.contextmanager
def statements():
    """The statements that are executed in this block, as a list."""
    found = []

    def note(connection, cursor, statement, *more):
        if statement != 'BEGIN':
            found.append(statement)
    event.listen(sqlalchemy.Engine, 'before_cursor_execute', note)
    try:
        yield found
    finally:
        event.remove(sqlalchemy.Engine, 'before_cursor_execute', note)


def _make_engine(path):
    global _engine
    _engine = engines.create_engine(f'sqlite:///{path}')
    # oslo.db opens a file of SQLite for each transaction, which reads all
    # definitions of tables again: half of what a small query costs.
    _engine.pool = pool.QueuePool(
        _engine.pool._creator, max_overflow=-1, dialect=_engine.dialect,
        _dispatch=_engine.pool.dispatch)

    @event.listens_for(_engine, 'do_connect')
    def choose_file(dialect, record, arguments, options):
        arguments[0] = _engine.url.database
        # Of a slow machine a thread may write for longer than the usual 5 s.
        options['timeout'] = 60

    return _engine


def _make_tables(engine, path):
    """Make Cinder's tables; those who come meanwhile wait and copy them."""
    # Its import costs half a second, and is for this alone.
    from cinder.db import migration

    EMPTY.parent.mkdir(exist_ok=True)
    with open(f'{EMPTY}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if EMPTY.exists():
            engine.dispose()
            shutil.copyfile(EMPTY, path)
            return
        _make_with_quotas(migration, engine)
        partial = f'{EMPTY}.{os.getpid()}'
        shutil.copyfile(path, partial)
        os.replace(partial, EMPTY)


def _make_with_quotas(migration, engine):
    """A sandbox copies these tables too, and the quotas that are in them."""
    for name, limit in configuration.QUOTAS.items():
        cfg.CONF.set_override(name, limit)
    try:
        migration.db_sync(engine=engine)
    finally:
        for name in configuration.QUOTAS:
            cfg.CONF.clear_override(name)
