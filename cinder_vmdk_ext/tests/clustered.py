# SPDX-License-Identifier: Apache-2.0
"""Runs a service of a cluster in a separate process.

    python -m cinder_vmdk_ext.tests.clustered SETTINGS_AS_JSON

It has the driver, and calls it as Cinder's manager does. It reads requests
from its standard input, one JSON object per line, and answers in the same way.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_db.sqlalchemy import engines

from cinder import context as cinder_context
from cinder import coordination
from cinder import objects

from cinder_vmdk_ext import driver
from sandbox.embedded import database
from sandbox.embedded import section

CLUSTER = f'group@{section.NAME}'


class Service:
    """In the process: one driver and what its manager calls."""

    def __init__(self, settings: dict[str, Any]) -> None:
        objects.register_all()
        made = section.read(**settings['options'])
        cfg.CONF.set_default('connection', 'sqlite://', 'database')
        cfg.CONF.set_override('backend_url', settings['locks'],
                              'coordination')
        coordination.COORDINATOR.start()
        self._context = cinder_context.get_admin_context()
        self._driver = driver.VmdkExtDriver(
            configuration=made, host=settings['host'], cluster_name=CLUSTER)
        self._driver.do_setup(self._context)
        self._leave_database: Callable[[], None] = lambda: None

    def database(self, path: str) -> None:
        """Use the database in that file from now on."""
        self._leave_database()
        self._leave_database = (
            database.api.main_context_manager.patch_engine(
                engines.create_engine(f'sqlite:///{path}')))

    def start(self) -> None:
        """What a service does as it starts."""
        self._driver.update_provider_info(
            list(objects.VolumeList.get_all(
                self._context, filters={'cluster_name': CLUSTER})), [])
        self.report()

    def report(self) -> str:
        """What a service does once a minute, and its worker more often."""
        while not self._driver.backend.reconciler.run():
            pass
        return self._driver.get_volume_stats(refresh=True)['backend_state']

    def create(self, volume: str) -> None:
        record = self._volume(volume)
        update = self._driver.create_volume(record)
        record.update({**update, 'status': 'available'})
        record.save()

    def delete(self, volume: str) -> None:
        record = self._volume(volume)
        record.status = 'deleting'
        record.save()
        self._driver.delete_volume(record)
        record.destroy()

    def attach(self, volume: str, connector: dict[str, str]) -> str:
        info = self._driver.initialize_connection(self._volume(volume),
                                                  connector)
        return info['data']['volume']

    def clone(self, volume: str, source: str) -> None:
        record = self._volume(volume)
        update = self._driver.create_cloned_volume(record,
                                                   self._volume(source))
        record.update({**update, 'status': 'available'})
        record.save()

    def revert(self, volume: str, snapshot: str) -> None:
        self._driver.revert_to_snapshot(
            self._context, self._volume(volume),
            objects.Snapshot.get_by_id(self._context, snapshot))

    def _volume(self, identifier: str) -> Any:
        return objects.Volume.get_by_id(self._context, identifier)


class Process:
    """Such a process, seen from outside."""

    def __init__(self, number: int, options: dict[str, Any], locks: str,
                 program: Sequence[str] = ('-m', __name__),
                 tree: str | None = None) -> None:
        """Start it; it is ready with its first answer.

        :param program: in the place of this module
        :param tree: the folder whose code it runs, if not this code's
        """
        environment = os.environ | {
            'OS_CINDER_DISABLE_EVENTLET_PATCHING': '1'}
        if tree is not None:
            environment['PYTHONPATH'] = tree
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', *program, json.dumps({
                'host': f'cinder-{number}@{section.NAME}', 'locks': locks,
                'options': dict(options)})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=tree, env=environment)

    def begin(self, do: str, **arguments: Any) -> None:
        """Ask for something, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({'do': do, **arguments}) + '\n')
        self._process.stdin.flush()

    def end(self) -> Any:
        """Wait for the answer.

        :raises AssertionError: it failed, with its words
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError('the service has ended')
        answer = json.loads(line)
        if 'error' in answer:
            raise AssertionError(answer['error'])
        return answer['result']

    def ask(self, do: str, **arguments: Any) -> Any:
        """Ask for something and wait for the answer."""
        self.begin(do, **arguments)
        return self.end()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    service = Service(json.loads(sys.argv[1]))
    for line in sys.stdin:
        wanted = json.loads(line)
        try:
            answer = {'result': getattr(service, wanted.pop('do'))(**wanted)}
        except Exception as error:
            answer = {'error': f'{type(error).__name__}: {error}'}
        print(json.dumps(answer), flush=True)
    service._driver.backend.end_session()


if __name__ == '__main__':
    main()
