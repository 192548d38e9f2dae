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
        self.failed = False

    def run(self, argv: list[str]) -> int:
        """Run a command.

        :returns: 0; 1 when an audit found something, or on an error
        """
        status = super().run(argv)
        return status or int(self.found or self.failed)


def main(argv: list[str] | None = None) -> int:
    """The console script."""
    return Application().run(sys.argv[1:] if argv is None else argv)


if __name__ == '__main__':
    sys.exit(main())
