# SPDX-License-Identifier: Apache-2.0
"""The base of tests on a real Cinder: one sandbox for each class."""

from collections.abc import Callable
from pathlib import Path
import shutil
import tempfile
from typing import Any
import unittest

import sandbox
from sandbox import configuration
from sandbox import inspection

BYTES_PER_GIB = 1024 ** 3


def new_folder(add_cleanup: Callable[..., Any]) -> Path:
    """A folder for sandboxes, until the cleanup of a test or of a class."""
    folder = Path(tempfile.mkdtemp(prefix='test-sandbox-'))
    add_cleanup(shutil.rmtree, folder, ignore_errors=True)
    return folder


class SandboxCase(unittest.TestCase):
    """Tests on three datastores of 100 GiB."""

    runtime: configuration.Runtime = 'threads'
    #: Flags of the simulator
    SIMULATOR = ['-ds', '3', '-ds-capacity', '100GiB']
    #: More arguments of the sandbox
    arguments: dict[str, Any] = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sandbox = cls.enterClassContext(sandbox.Sandbox(
            new_folder(cls.addClassCleanup), runtime=cls.runtime,
            simulator_arguments=cls.SIMULATOR,
            **cls.arguments))
        cls.inspector = cls.enterClassContext(
            inspection.Inspector(cls.sandbox.vcenter))
        cls.cinder = cls.sandbox.cinder
        cls.clients = cls.sandbox.clients
