# SPDX-License-Identifier: Apache-2.0
"""Runs Cinder's API, scheduler and volume services in one process.

oslo.messaging's in-memory transport (`fake:/`) works within one process, so no
message broker has to be installed. Run as

    python -m sandbox.cinder_services READY_FILE --config-file cinder.conf

It writes {"port": ...} to the ready file when the API answers, or else
{"error": ...}.
OS_CINDER_DISABLE_EVENTLET_PATCHING=1 runs it on native threads.
"""
# This patches the standard library for eventlet, or not, as the installed
# release of Cinder does it. It must come first.
from cinder.cmd import volume as _patched  # noqa: F401, I100, I202

import atexit
import json
import logging as python_logging
import os
import pathlib
import shlex
import signal
import socketserver
import sys
import threading
import time
from typing import Any
from typing import Protocol
from wsgiref import simple_server

from eventlet import patcher
import os_brick
import os_brick.privileged
from oslo_config import cfg
from oslo_log import log as logging
from oslo_privsep import priv_context
from oslo_service import wsgi
import sqlalchemy
import sqlalchemy.event

from cinder.common import config
from cinder.common import constants
from cinder import context
from cinder import coordination
from cinder.db import api as _db_options  # noqa: F401
from cinder import objects
from cinder import privsep
from cinder import rpc
from cinder import service
from cinder import utils
from cinder import version

NATIVE_THREADS_VARIABLE = 'OS_CINDER_DISABLE_EVENTLET_PATCHING'

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


class DriverNotReady(Exception):
    """A volume driver did not initialize; the log says why."""


class Service(service.Service):
    """A service that shares its process with others.

    cinder.service.Service keeps the id of its database record in a class
    attribute, so of several in one process only the last would report.
    """

    def report_state(self) -> None:
        if not self.manager.is_working():
            LOG.error('%s on %s is not working; it will be reported as down.',
                      self.binary, self.host)
            return
        try:
            record = objects.Service.get_by_id(context.get_admin_context(),
                                               self.origin_service_id)
            record.report_count += 1
            record.save(retry=False)
        except Exception:
            LOG.exception('%s on %s could not report its state.',
                          self.binary, self.host)


class Api(Protocol):
    """The common part of both ways to serve the API."""

    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...


class ThreadedApi:
    """The Volume API on native threads.

    oslo.service's WSGI server, which Cinder would use, needs eventlet.
    """

    class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
        daemon_threads = True
        request_queue_size = 128

        def server_bind(self) -> None:
            # Not HTTPServer's, which asks the resolver for our name.
            socketserver.TCPServer.server_bind(self)
            self.server_name = CONF.osapi_volume_listen
            self.server_port = self.server_address[1]
            self.setup_environ()

    class _Handler(simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            LOG.info(format, *args)

    def __init__(self) -> None:
        application = wsgi.Loader(CONF).load_app('osapi_volume')
        self._server = simple_server.make_server(
            CONF.osapi_volume_listen, CONF.osapi_volume_listen_port,
            application, server_class=self._Server,
            handler_class=self._Handler)
        self.port: int = self._server.server_port

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever,
                         daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()


def is_eventlet() -> bool:
    """Whether this process runs on eventlet's green threads."""
    patched: bool = patcher.is_monkey_patched('thread')
    return patched


def configure(arguments: list[str]) -> None:
    """Do what Cinder's own programs do before they start a service."""
    objects.register_all()
    CONF(arguments, project='cinder', version=version.version_string())
    config.set_middleware_defaults()
    logging.setup(CONF, 'cinder')
    python_logging.captureWarnings(True)
    do_without_privileges()
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    os_brick.setup(CONF)
    # Once, here; a service that is stopped would else stop it for all.
    coordination.COORDINATOR.start()
    rpc.init(CONF)


def do_without_privileges() -> None:
    """Read files as the user of this process, not as root by sudo.

    Cinder's own way needs a configured sudo; here the user owns all files.
    """
    for each in privsep.sys_admin_pctxt, os_brick.privileged.default:
        each.set_client_mode(False)
    utils.get_root_helper = lambda: 'env'


def make_transactions_wait() -> None:
    """Make a thread's SQLite transaction wait until another's has ended.

    By default a transaction takes the write lock only when it first writes;
    of two that have read before, one then fails at once with "database is
    locked", however long the timeout. Only for native threads: a green
    thread that waits in SQLite would stop the one that it waits for.
    """
    @sqlalchemy.event.listens_for(sqlalchemy.Engine, 'before_cursor_execute',
                                  retval=True)
    def _begin_with_write_lock(_connection: Any, _cursor: Any, statement: str,
                               parameters: Any, _context: Any, _many: bool
                               ) -> tuple[str, Any]:
        # oslo.db begins each transaction by a statement of its own.
        if statement == 'BEGIN':
            statement = 'BEGIN IMMEDIATE'
        return statement, parameters


def start_volume_services() -> list[Service]:
    """Start one cinder-volume service for each enabled backend.

    :raises DriverNotReady: when a driver did not initialize; Cinder itself
        would go on without it
    """
    services = []
    for backend in CONF.enabled_backends:
        one = Service.create(host='%s@%s' % (CONF.host, backend),
                             service_name=backend,
                             binary=constants.VOLUME_BINARY)
        one.start()
        if not one.manager.is_working():
            raise DriverNotReady(
                'the volume driver of backend "%s" (%s) did not initialize'
                % (backend, CONF[backend].volume_driver))
        services.append(one)
    # Records of unfinished work have to name a volume service, not the
    # scheduler, which is started later.
    service.Service.service_id = services[0].origin_service_id
    return services


def start_scheduler(volume_services: list[Service]) -> Service:
    """Start cinder-scheduler.

    It starts after the volume services, because it asks them for a first
    report, and the in-memory transport drops broadcasts that have no receiver.
    """
    volume_service_id = volume_services[0].origin_service_id
    scheduler = Service.create(binary=constants.SCHEDULER_BINARY)
    scheduler.start()
    service.Service.service_id = volume_service_id
    return scheduler


def start_api() -> Api:
    """Serve the Volume API on the configured port, or on a free one (0)."""
    api: Api = (service.WSGIService('osapi_volume')
                if is_eventlet() else ThreadedApi())
    api.start()
    return api


def write_ready_file(ready_file: pathlib.Path, **values: object) -> None:
    """Write the ready file, whole or not at all."""
    partial = ready_file.with_suffix('.partial')
    partial.write_text(json.dumps(values))
    partial.replace(ready_file)


def wait_for_signal() -> None:
    """Return after SIGTERM or SIGINT."""
    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    if not is_eventlet():
        asked_to_end.wait()
    while not asked_to_end.is_set():
        # Under eventlet this yields; an event's wait() would not be woken
        # from a signal handler.
        time.sleep(0.2)


def main() -> None:
    ready_file = pathlib.Path(sys.argv[1])
    configure(sys.argv[2:])
    if is_eventlet() and os.environ.get(NATIVE_THREADS_VARIABLE) == '1':
        write_ready_file(
            ready_file, error='Cinder %s does not run on native threads'
            % version.version_string())
        sys.exit(1)
    if not is_eventlet():
        make_transactions_wait()
    try:
        services = start_volume_services()
        services.append(start_scheduler(services))
        api = start_api()
    except Exception as exc:
        if not isinstance(exc, DriverNotReady):
            LOG.exception('Cinder did not start.')
        write_ready_file(ready_file, error=str(exc))
        os._exit(1)  # threads that are not daemons may be running already
    write_ready_file(ready_file, port=api.port)
    wait_for_signal()
    LOG.info('Ending.')
    api.stop()
    for one in reversed(services):
        one.stop()
    # Looping calls on native threads would delay the end of the process by
    # seconds, so the exit functions run here: a driver ends its session.
    atexit._run_exitfuncs()
    os._exit(0)


if __name__ == '__main__':
    main()
