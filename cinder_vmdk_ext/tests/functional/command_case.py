# SPDX-License-Identifier: Apache-2.0
"""The operator's command in the test's process, on a test's backend.

Its effects in the vCenter are checked with pyVmomi.
"""

import contextlib
import io
import json
import threading
from unittest import mock

from cinder import exception

from cinder_vmdk_ext.cmd import backend
from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.tests.functional import backend_case
from sandbox.embedded import section


class Backends:
    """Stands for ``cmd.backend``: the backend is open already."""

    def __init__(self, backend):
        self._backend = backend
        self._thread = threading.get_ident()
        self._locking = False

    def load(self, files):
        """The options are the process's."""

    def names(self, wanted, upstream=False):
        if wanted not in (None, section.NAME):
            raise exceptions.InvalidSettings('--backend', wanted, 'wrong')
        return [section.NAME]

    def connection(self, name):
        return self._backend.upstream.configuration

    owner_of = staticmethod(backend.owner_of)
    owner_of_uuid = staticmethod(backend.owner_of_uuid)
    driver_options = staticmethod(backend.driver_options)
    config_files = staticmethod(backend.config_files)

    def opened(self, name):
        return contextlib.nullcontext(self._backend)

    @contextlib.contextmanager
    def locking(self):
        before, self._locking = self._locking, True
        try:
            yield
        finally:
            self._locking = before

    def refusing_locks(self):
        """Outside of ``locking`` a command's process can hold no lock.

        The test's process can: the driver's own threads need it.
        """
        acquired = locks._acquired

        def acquire(name, blocking):
            if not self._locking and threading.get_ident() == self._thread:
                raise exception.LockCreationFailed('no coordinator')
            return acquired(name, blocking)
        return mock.patch.object(locks, '_acquired', acquire)


class CommandCase(backend_case.BackendCase):
    """Tests of commands."""

    def command(self, *words, answers='', driver=None):
        """Run it.

        :returns: its exit status, standard output and standard error
        """
        out, err = io.StringIO(), io.StringIO()
        self.backends = Backends((driver or self.driver).backend)
        with self.backends.refusing_locks():
            status = main.Application(
                self.backends, stdout=out, stderr=err,
                stdin=io.StringIO(answers)).run(list(words))
        return status, out.getvalue(), err.getvalue()

    def calls_of(self, *words):
        """How many calls a command makes; the driver's own threads make more.
        """
        self.catch_up()
        with self.counted() as made:
            self.listed(*words)
        return made.total()

    def listed(self, *words, status=0, **options):
        """What a command lists, as values by their keys."""
        done = self.command(*words, '--format', 'json', **options)
        self.assertEqual((status, ''), (done[0], done[2]), done)
        return json.loads(done[1])
