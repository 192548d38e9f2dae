# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext``: the operator's command."""

import sys
from importlib import metadata

from cliff import app
from cliff import commandmanager

from cinder_vmdk_ext.cmd import auditing


class Application(app.App):
    """Commands around the driver."""

    def __init__(self) -> None:
        commands = commandmanager.CommandManager('cinder_vmdk_ext.commands')
        commands.add_command('audit', auditing.Audit)
        commands.add_command('sweep', auditing.Sweep)
        super().__init__(
            description="Looks after the cinder_vmdk_ext driver's volumes.",
            version=metadata.version('cinder-vmdk-ext'),
            command_manager=commands,
            deferred_help=True)
        # What the commands found, for the exit status.
        self.found = False
        self.lost = False
        self.failed = False
        self.misused = False

    def run(self, argv: list[str]) -> int:
        """Run a command.

        :returns: 0: done, nothing found; 1: failed; 2: called wrongly; 3:
            an audit found something; 4: and something is lost
        """
        status = super().run(argv)
        if self.misused:
            return 2
        if status or self.failed:
            return status or 1
        return 4 if self.lost else 3 if self.found else 0


def main(argv: list[str] | None = None) -> int:
    """The console script."""
    return Application().run(sys.argv[1:] if argv is None else argv)


if __name__ == '__main__':
    sys.exit(main())
