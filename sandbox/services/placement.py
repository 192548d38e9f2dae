# SPDX-License-Identifier: Apache-2.0
"""Placement: what Nova's compute nodes have, and what of it is taken."""
from __future__ import annotations

from pathlib import Path

from sandbox import configuration
from sandbox import processes
from sandbox.services import accounts as accounts_module
from sandbox.services import environment


def options(database: str, accounts: accounts_module.Accounts
            ) -> dict[str, configuration.Options]:
    """Section -> options of placement.conf."""
    return {
        'DEFAULT': {'use_stderr': True},
        'api': {'auth_strategy': 'keystone'},
        'placement_database': {'connection': database},
        'keystone_authtoken': accounts.token_options(),
    }


def start(folder: Path, database: str, accounts: accounts_module.Accounts
          ) -> processes.ManagedProcess:
    """Start it, without waiting for it."""
    etc = folder / 'etc' / 'placement'
    etc.mkdir()
    configuration.write_private(
        etc / 'placement.conf',
        configuration.as_ini(options(database, accounts)))
    return environment.serve(
        'placement', 'placement.wsgi.api', accounts.ports.placement, folder,
        {'OS_PLACEMENT_CONFIG_DIR': str(etc)})
