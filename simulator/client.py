# SPDX-License-Identifier: Apache-2.0
"""Start a simulated vCenter, find out where it serves, log in to it and stop it (README.md says what it is).

:class:`Simulator` does all of it within one process. A program that keeps the simulator running after its own end starts
:func:`command` itself, and reads the address with :func:`read_ready_line`.
"""

import atexit
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re
import select
import shlex
import shutil
import ssl
import subprocess
import tempfile
import time
from typing import Any
from urllib import parse
from urllib import request

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# A line that has come in full: what is read from a pipe or a file may end in the middle of it.
_READY_LINE = re.compile(r'^export (GOVC_URL=.*)\n', re.MULTILINE)

#: Rules of a vCenter (simulator/README.md, "Rules") that the plugin does not cope with yet. The plugin's tests and the sandbox
#: ask the simulator to be lenient in these, and in no others; the conformance suite asks for none.
PLUGIN_STILL_NEEDS: tuple[str, ...] = ()


class SimulatorError(Exception):
    """The simulator did not start, or ended by itself. The message holds the tail of its output."""


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a simulated vCenter serves, and how to log in to it.

    :param cacert: a file that verifies its TLS
    :param control_url: of its control endpoint (docs/control.md); empty without one
    """

    host: str
    port: int
    user: str
    password: str = dataclasses.field(repr=False)
    cacert: str
    control_url: str
    pid: int


def program() -> str:
    """The path of the simulator: build/vcenter-sim, or what the environment variable VCENTER_SIM names.

    :raises SimulatorError: it is not there; it is not built here
    """
    path = os.environ.get('VCENTER_SIM') or str(_ROOT / 'build' / 'vcenter-sim')
    if not os.path.exists(path):
        raise SimulatorError(f'{path} is missing: build it with "make simulator".')
    return path


def command(cacert: str | os.PathLike[str], flags: Mapping[str, Any], arguments: Sequence[str] = ()) -> list[str]:
    """The command that starts a simulator on free ports of loopback.

    :param cacert: the file that it writes its certificate to
    :param flags: as for :class:`Simulator`; they come after, and so above, the ones that are always there
    :param arguments: more flags, as on a command line, after all others
    :raises SimulatorError: it is not built
    """
    always = {'l': '127.0.0.1:0', 'control': '127.0.0.1:0', 'cacert_out': cacert}
    return [program(), *_as_arguments({**always, **flags}), *arguments]


def read_ready_line(output: str, cacert: str | os.PathLike[str]) -> Address | None:
    """Where a simulator serves, from what it has printed on standard output so far.

    :returns: None while the line is not there
    """
    line = _READY_LINE.search(output)
    if line is None:
        return None
    values = dict(word.split('=', 1) for word in shlex.split(line[1]))
    url = parse.urlsplit(values['GOVC_URL'])
    return Address(
        host=url.hostname or '', port=url.port or 443, user=parse.unquote(url.username or ''),
        password=parse.unquote(url.password or ''), cacert=str(cacert), control_url=values.get('VCENTER_SIM_CONTROL', ''),
        pid=int(values['GOVC_SIM_PID']))


def log_in(address: 'Address | Simulator', user: str | None = None, password: str | None = None) -> Any:
    """Log in with pyVmomi, an independent client.

    :param user: another user than the administrator, with a password
    :returns: a ServiceInstance, over TLS that is verified
    """
    from pyVim import connect
    return connect.SmartConnect(
        host=address.host, port=address.port, user=user or address.user, pwd=password or address.password,
        sslContext=ssl.create_default_context(cafile=address.cacert), disableSslCertValidation=False)


class Simulator:
    """A simulated vCenter in a process of its own.

    A context manager: ``with Simulator(ds=3, ds_capacity='100GiB') as vcenter``. The keyword arguments are the flags of
    ``build/vcenter-sim`` (``api_version='8.0.3.0'`` for ``-api-version 8.0.3.0``); a list repeats a flag, True and False set a
    flag (``autostart=False`` for ``-autostart=false``), None leaves it out. It takes free ports on loopback. The program is ``build/vcenter-sim``, or what the
    environment variable VCENTER_SIM names; it is not built here (``make simulator`` does).

    After the start: host, port, user, password, cacert (a file that verifies the TLS), control_url, pid.
    """

    def __init__(self, **flags):
        self.flags = flags
        self.host = self.port = self.user = self.password = self.cacert = self.control_url = self.pid = None
        self._process = None
        self._folder = None
        self._clients = []

    def __enter__(self):
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *exc_info):
        self.stop()

    def start(self, timeout_s=60, **flags):
        """Start it and wait until it serves. Flags given here add to, or replace, those given before.

        :raises SimulatorError: with the tail of its output, if it is not built, ends, or is not ready in time
        """
        if self._process is not None:
            raise SimulatorError('This simulator runs already: stop() it first, or make another one.')
        self.flags.update(flags)
        self._folder = tempfile.mkdtemp(prefix='vcenter-sim-')
        self.cacert = os.path.join(self._folder, 'cacert.pem')
        self._log = os.path.join(self._folder, 'output')
        try:
            with open(self._log, 'wb') as log:
                self._process = subprocess.Popen(command(self.cacert, self.flags), stdin=subprocess.DEVNULL,
                                                 stdout=subprocess.PIPE, stderr=log)
        except OSError as error:
            self._clean()
            raise SimulatorError(f'Cannot run {program()}: {error.strerror}.') from None
        except SimulatorError:
            self._clean()
            raise
        atexit.register(self.stop)
        try:
            self._wait_until_ready(timeout_s)
        except SimulatorError:
            self.stop()
            raise
        return self

    def _wait_until_ready(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        text = b''
        while True:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not readable:
                raise SimulatorError(f'The simulator is not ready after {timeout_s} s:\n{self.output_tail()}')
            chunk = os.read(self._process.stdout.fileno(), 4096)
            if not chunk:
                status = self._process.wait()
                raise SimulatorError(f'The simulator ended with status {status}:\n{self.output_tail()}')
            text += chunk
            address = read_ready_line(text.decode(errors='replace'), self.cacert)
            if address is not None:
                vars(self).update(vars(address))
                return

    def stop(self):
        """End it, and what connect() opened. Harmless if it does not run."""
        self._clients.clear()
        if self._process is not None:
            self._note_privileges()
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None
            atexit.unregister(self.stop)
        self._clean()

    def _note_privileges(self):
        """Write down which privileges were checked, if the environment variable VCENTER_SIM_PRIVILEGES names a folder."""
        folder = os.environ.get('VCENTER_SIM_PRIVILEGES')
        if folder and self.control_url and self._process.poll() is None:
            with request.urlopen(self.control_url + '/privileges/used', timeout=30) as reply:
                pathlib.Path(folder, f'{self.pid}.json').write_bytes(reply.read())

    def _clean(self):
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def output_tail(self, lines=30):
        """The last lines that it wrote to its error output."""
        with open(self._log, errors='replace') as log:
            return ''.join(log.readlines()[-lines:]).rstrip()

    def connect(self, user=None, password=None):
        """Log in with pyVmomi; see :func:`log_in`."""
        client = log_in(self, user, password)
        self._clients.append(client)
        return client


def for_plugin(**flags):
    """A simulated vCenter that the plugin can work with: lenient in what PLUGIN_STILL_NEEDS."""
    return Simulator(**{'lenient': PLUGIN_STILL_NEEDS, **flags})


def _as_arguments(flags: Mapping[str, Any]) -> Iterator[str]:
    for name, value in flags.items():
        flag = '-' + name.replace('_', '-')
        if value is None:
            continue
        if value is False:
            yield f'{flag}=false'
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            yield flag
            if item is not True:
                yield str(item)
