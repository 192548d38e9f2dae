# SPDX-License-Identifier: Apache-2.0
"""Defines the errors of a sandbox.

    SandboxError            one plain message, made to be shown to a person
      ProcessFailed         a process ended or stayed silent; carries its log
      CommandFailed         a client command returned non-zero; carries output
"""


class SandboxError(Exception):
    """The message says what is wrong and what can be done about it."""


class ProcessFailed(SandboxError):
    """A process of the sandbox did not come up.

    :param log_excerpt: the part of its log that explains why
    """

    def __init__(self, message: str, log_excerpt: str = '') -> None:
        super().__init__(message)
        self.log_excerpt = log_excerpt

    def __str__(self) -> str:
        message = super().__str__()
        if not self.log_excerpt:
            return message
        indented = '\n'.join('    ' + line
                             for line in self.log_excerpt.splitlines())
        return '%s\n%s' % (message, indented)


class CommandFailed(SandboxError):
    """A client command failed.

    :param command: the command as a person would type it
    :param exit_code: its exit code
    :param output: everything that it printed
    """

    def __init__(self, command: str, exit_code: int, output: str) -> None:
        super().__init__('"%s" failed with exit code %d:\n%s'
                         % (command, exit_code, output.strip()))
        self.command = command
        self.exit_code = exit_code
        self.output = output
