# SPDX-License-Identifier: Apache-2.0
"""Glance behind Keystone, for a cloud; `sandbox.glance` is the one without."""
from __future__ import annotations

from pathlib import Path
import shutil

from sandbox import configuration
from sandbox import glance
from sandbox import processes
from sandbox.services import accounts as accounts_module
from sandbox.services import environment


def options(folder: Path, database: str, broker: str,
            accounts: accounts_module.Accounts
            ) -> dict[str, configuration.Options]:
    """Section -> options of glance-api.conf."""
    sections = glance.options(folder)
    return {
        **sections,
        'DEFAULT': {**sections['DEFAULT'], 'transport_url': broker,
                    'use_stderr': True},
        'database': {'connection': database},
        'keystone_authtoken': accounts.token_options(),
        'paste_deploy': {'flavor': 'keystone'},
    }


def start(folder: Path, database: str, broker: str,
          accounts: accounts_module.Accounts) -> processes.ManagedProcess:
    """Start Glance, without waiting for it.

    :param database: where its tables are
    :param broker: the transport_url
    """
    etc = folder / 'etc' / 'glance'
    etc.mkdir()
    glance.make_folders(folder)
    path = etc / 'glance-api.conf'
    configuration.write_private(path, configuration.as_ini(
        options(folder, database, broker, accounts)))
    shutil.copy(environment.SERVICES.folder / 'etc' / 'glance'
                / 'glance-api-paste.ini', etc)
    return environment.serve(
        'glance', 'glance.wsgi.api', accounts.ports.glance, folder,
        {'OS_GLANCE_CONFIG_DIR': str(etc)})
