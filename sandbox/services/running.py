# SPDX-License-Identifier: Apache-2.0
"""A whole cloud that runs, as its description says, whoever started it."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sandbox import cloud
from sandbox import errors
from sandbox.services import keystone
from simulator import client


class RunningCloud:
    """The cloud in a folder.

    :raises SandboxError: when none runs there
    """

    def __init__(self, folder: Path = cloud.DEFAULT_FOLDER) -> None:
        try:
            described = json.loads(
                (folder / 'sandbox.json').read_text())
            self.clouds_yaml = Path(described['clouds_yaml'])
        except (FileNotFoundError, KeyError):
            raise errors.SandboxError(
                'no whole cloud runs in %s: start one with "make sandbox '
                'CLOUD=1"' % folder) from None
        self.folder = folder
        self.dashboard_url: str = described['dashboard_url']
        self.vcenter = client.Address(**described['vcenter'], pid=0)

    def connection(self, name: str) -> Any:
        """A connection of openstacksdk as one of clouds.yaml."""
        return keystone.connect(self.clouds_yaml, name)

    def login(self, name: str) -> dict[str, str]:
        """How one of clouds.yaml logs in: username, password and so on."""
        # It is written as JSON, which is YAML.
        found: dict[str, str] = json.loads(self.clouds_yaml.read_text())[
            'clouds'][name]['auth']
        return found
