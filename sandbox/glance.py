# SPDX-License-Identifier: Apache-2.0
"""Starts a real Glance for the sandbox: images in files, no Keystone.

It has its own Python environment (`make glance`), which also has the packages
of the sandbox's environment. `glance_service` serves it.
"""
from __future__ import annotations

import configparser
import json
import os
from pathlib import Path
import sysconfig

from sandbox import configuration
from sandbox import errors
from sandbox import processes

_START_TIMEOUT_SECONDS = 120
_FLAVOR = 'sandbox'


def environment() -> Path:
    """The environment that Glance is installed in.

    :raises SandboxError: when it is not
    """
    folder = configuration.BUILD / 'glance-venv'
    if not (folder / 'etc' / 'glance' / 'glance-api-paste.ini').exists():
        raise errors.SandboxError(
            'Glance is not installed in %s: run "make glance"' % folder)
    return folder


def start(folder: Path) -> processes.ManagedProcess:
    """Start Glance; `wait_until_ready` says when it serves."""
    installed = environment()
    etc = folder / 'etc' / 'glance'
    etc.mkdir(parents=True)
    make_folders(folder)
    configuration.write_private(etc / 'glance-api.conf',
                                configuration.as_ini(options(folder)))
    _write_paste(installed / 'etc' / 'glance' / 'glance-api-paste.ini',
                 etc / 'glance-api-paste.ini')
    return processes.ManagedProcess.start(
        'glance', [str(installed / 'bin' / 'python'), '-m',
                   'sandbox.glance_service', str(_ready_file(folder))],
        folder, environment={
            'OS_GLANCE_CONFIG_DIR': str(etc),
            'PYTHONPATH': str(configuration.REPOSITORY),
            'PATH': os.pathsep.join([
                str(installed / 'bin'), sysconfig.get_path('scripts'),
                os.environ.get('PATH', os.defpath)])})


def wait_until_ready(process: processes.ManagedProcess,
                     folder: Path) -> str:
    """Wait for Glance, and return its URL.

    :raises ProcessFailed: when it ends instead
    """
    ready_file = _ready_file(folder)
    port = process.wait_until_ready(
        lambda: json.loads(ready_file.read_text())['port']
        if ready_file.exists() else None, _START_TIMEOUT_SECONDS)
    return 'http://127.0.0.1:%d' % port


def _ready_file(folder: Path) -> Path:
    return folder / 'run' / 'glance.ready.json'


def make_folders(folder: Path) -> None:
    """Make the folders that `options` names."""
    for name in ('images', 'staging', 'tasks'):
        (folder / 'glance' / name).mkdir(parents=True)


def options(folder: Path) -> dict[str, configuration.Options]:
    """Section -> options of glance-api.conf."""
    data = folder / 'glance'
    return {
        'DEFAULT': {
            'transport_url': 'fake:/',
            'enabled_backends': 'files:file',
            'enabled_import_methods': '[]',
            'worker_self_reference_url': 'http://127.0.0.1',
        },
        'database': {
            'connection': 'sqlite:///%s?timeout=60' % (data / 'db.sqlite')},
        'oslo_concurrency': {'lock_path': data / 'locks'},
        'paste_deploy': {'flavor': _FLAVOR},
        'glance_store': {'default_backend': 'files'},
        'files': {'filesystem_store_datadir': data / 'images'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': data / 'staging'},
        'os_glance_tasks_store': {'filesystem_store_datadir': data / 'tasks'},
        # A flat disk ("preallocated") is called vmdk, but has another format.
        'image_format': {'require_image_format_match': False},
    }


def _write_paste(source: Path, target: Path) -> None:
    """Add a pipeline that trusts the identity in a request."""
    paste = configparser.RawConfigParser()
    paste.optionxform = str  # type: ignore[assignment,method-assign]
    paste.read(source)
    paste['composite:glance-api-%s' % _FLAVOR] = dict(
        paste['composite:glance-api'])
    paste['composite:api'][_FLAVOR] = 'versionnegotiation context rootapp'
    with open(target, 'w') as stream:
        paste.write(stream)
