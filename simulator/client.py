# SPDX-License-Identifier: Apache-2.0
"""The one way in which tests start a simulated vCenter (simulator/README.md)."""

import atexit
import os
import pathlib
import re
import select
import shutil
import ssl
import subprocess
import tempfile
import time
from urllib import parse

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_READY = re.compile(r'export GOVC_URL=https://(?P<user>[^:]+):(?P<password>[^@]+)@(?P<host>[^/]+):(?P<port>\d+)/sdk '
                    r'GOVC_SIM_PID=(?P<pid>\d+)(?: VCENTER_SIM_CONTROL=(?P<control_url>\S+))?')


#: Rules of a vCenter (simulator/README.md, "Rules") that the plugin does not cope with yet. The plugin's tests and the sandbox
#: ask the simulator to be lenient in these, and in no others; the conformance suite asks for none.
PLUGIN_STILL_NEEDS: tuple[str, ...] = ()


class SimulatorError(Exception):
    """The simulator did not start, or ended by itself. The message holds the tail of its output."""


class Simulator:
    """A simulated vCenter in a process of its own.

    A context manager: ``with Simulator(ds=3, ds_capacity='100GiB') as vcenter``. The keyword arguments are the flags of
    ``build/vcenter-sim`` (``api_version='8.0.3.0'`` for ``-api-version 8.0.3.0``); a list repeats a flag, True gives a flag
    without a value, None leaves it out. It takes free ports on loopback. The program is ``build/vcenter-sim``, or what the
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
        program = os.environ.get('VCENTER_SIM') or str(_ROOT / 'build' / 'vcenter-sim')
        command = [program, *_command_line({'l': '127.0.0.1:0', 'control': '127.0.0.1:0', 'cacert_out': self.cacert,
                                            **self.flags})]
        try:
            with open(self._log, 'wb') as log:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        except OSError as error:
            self._clean()
            raise SimulatorError(f'Cannot run {program}: {error.strerror}. Build it with "make simulator".') from None
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
            found = _READY.search(text.decode(errors='replace'))
            if found and text.endswith(b'\n'):
                for name, value in found.groupdict().items():
                    setattr(self, name, value)
                self.port, self.pid = int(self.port), int(self.pid)
                self.user, self.password = parse.unquote(self.user), parse.unquote(self.password)
                return

    def stop(self):
        """End it, and what connect() opened. Harmless if it does not run."""
        self._clients.clear()
        if self._process is not None:
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

    def _clean(self):
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def output_tail(self, lines=30):
        """The last lines that it wrote to its error output."""
        with open(self._log, errors='replace') as log:
            return ''.join(log.readlines()[-lines:]).rstrip()

    def connect(self):
        """Log in with pyVmomi, an independent client.

        :returns: a ServiceInstance, over TLS that is verified against cacert
        """
        from pyVim import connect
        client = connect.SmartConnect(
            host=self.host, port=self.port, user=self.user, pwd=self.password,
            sslContext=ssl.create_default_context(cafile=self.cacert), disableSslCertValidation=False)
        self._clients.append(client)
        return client


def for_plugin(**flags):
    """A simulated vCenter that the plugin can work with: lenient in what PLUGIN_STILL_NEEDS."""
    return Simulator(**{'lenient': PLUGIN_STILL_NEEDS, **flags})


def _command_line(flags):
    for name, value in flags.items():
        flag = '-' + name.replace('_', '-')
        if value is None or value is False:
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            yield flag
            if item is not True:
                yield str(item)
