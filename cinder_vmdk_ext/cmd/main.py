# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext``: the command for operators."""

import argparse
import contextlib
import getpass
import io
import logging
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from cliff import app
from cliff import commandmanager

from cinder_vmdk_ext.cmd import columns

# A command's module is loaded when it is called: to import Cinder takes
# seconds.
COMMANDS = {
    'audit': 'cinder_vmdk_ext.cmd.auditing:Audit',
    'bundle': 'cinder_vmdk_ext.cmd.bundle:Bundle',
    'cache clean': 'cinder_vmdk_ext.cmd.caching:CleanCache',
    'cache list': 'cinder_vmdk_ext.cmd.caching:ListCache',
    'check': 'cinder_vmdk_ext.cmd.checking:Check',
    'inventory save': 'cinder_vmdk_ext.cmd.explaining:SaveInventory',
    'metrics': 'cinder_vmdk_ext.cmd.status:Metrics',
    'migrate plan': 'cinder_vmdk_ext.cmd.migrating:PlanMigrate',
    'migrate run': 'cinder_vmdk_ext.cmd.migrating:RunMigrate',
    'pool drain': 'cinder_vmdk_ext.cmd.draining:DrainPool',
    'pool explain': 'cinder_vmdk_ext.cmd.explaining:ExplainPool',
    'pool list': 'cinder_vmdk_ext.cmd.pools:ListPool',
    'pool show': 'cinder_vmdk_ext.cmd.pools:ShowPool',
    'pool undrain': 'cinder_vmdk_ext.cmd.draining:UndrainPool',
    'quarantine list': 'cinder_vmdk_ext.cmd.quarantine:ListQuarantine',
    'quarantine purge': 'cinder_vmdk_ext.cmd.quarantine:PurgeQuarantine',
    'quarantine restore': 'cinder_vmdk_ext.cmd.quarantine:RestoreQuarantine',
    'repair': 'cinder_vmdk_ext.cmd.repairing:Repair',
    'snapshot relink': 'cinder_vmdk_ext.cmd.snapshot_relinking:RelinkSnapshot',
    'status': 'cinder_vmdk_ext.cmd.status:Status',
    'sweep': 'cinder_vmdk_ext.cmd.auditing:Sweep',
    'vc cluster create': 'cinder_vmdk_ext.cmd.vc_clusters:CreateVcCluster',
    'vc cluster datastores':
        'cinder_vmdk_ext.cmd.vc_clusters:ListVcClusterDatastores',
    'vc cluster delete': 'cinder_vmdk_ext.cmd.vc_clusters:DeleteVcCluster',
    'vc cluster list': 'cinder_vmdk_ext.cmd.vc_clusters:ListVcCluster',
    'vc cluster show': 'cinder_vmdk_ext.cmd.vc_clusters:ShowVcCluster',
    'vc datastore browse':
        'cinder_vmdk_ext.cmd.vc_datastores:BrowseVcDatastore',
    'vc datastore create local':
        'cinder_vmdk_ext.cmd.vc_datastores:CreateVcLocal',
    'vc datastore create nfs': 'cinder_vmdk_ext.cmd.vc_datastores:CreateVcNfs',
    'vc datastore create nfs41':
        'cinder_vmdk_ext.cmd.vc_datastores:CreateVcNfs41',
    'vc datastore create vmfs':
        'cinder_vmdk_ext.cmd.vc_datastores:CreateVcVmfs',
    'vc datastore delete':
        'cinder_vmdk_ext.cmd.vc_datastores:DeleteVcDatastore',
    'vc datastore io set': 'cinder_vmdk_ext.cmd.vc_datastores:SetVcIo',
    'vc datastore io show': 'cinder_vmdk_ext.cmd.vc_datastores:ShowVcIo',
    'vc datastore list': 'cinder_vmdk_ext.cmd.vc_datastores:ListVcDatastore',
    'vc datastore maintenance enter':
        'cinder_vmdk_ext.cmd.vc_datastores:EnterVcMaintenance',
    'vc datastore maintenance exit':
        'cinder_vmdk_ext.cmd.vc_datastores:ExitVcMaintenance',
    'vc datastore reachable':
        'cinder_vmdk_ext.cmd.vc_datastores:ReachVcDatastore',
    'vc datastore refresh':
        'cinder_vmdk_ext.cmd.vc_datastores:RefreshVcDatastore',
    'vc datastore rename':
        'cinder_vmdk_ext.cmd.vc_datastores:RenameVcDatastore',
    'vc datastore show': 'cinder_vmdk_ext.cmd.vc_datastores:ShowVcDatastore',
    'vc disk copy': 'cinder_vmdk_ext.cmd.vc_disks:CopyVcDisk',
    'vc disk create': 'cinder_vmdk_ext.cmd.vc_disks:CreateVcDisk',
    'vc disk delete': 'cinder_vmdk_ext.cmd.vc_disks:DeleteVcDisk',
    'vc disk eager-zero': 'cinder_vmdk_ext.cmd.vc_disks:EagerZeroVcDisk',
    'vc disk extend': 'cinder_vmdk_ext.cmd.vc_disks:ExtendVcDisk',
    'vc disk inflate': 'cinder_vmdk_ext.cmd.vc_disks:InflateVcDisk',
    'vc disk io list': 'cinder_vmdk_ext.cmd.vc_disks:ListVcDiskIo',
    'vc disk io set': 'cinder_vmdk_ext.cmd.vc_disks:SetVcDiskIo',
    'vc disk list': 'cinder_vmdk_ext.cmd.vc_disks:ListVcDisk',
    'vc disk move': 'cinder_vmdk_ext.cmd.vc_disks:MoveVcDisk',
    'vc host rescan': 'cinder_vmdk_ext.cmd.vc_datastores:RescanVcHost',
    'vc snapshot create': 'cinder_vmdk_ext.cmd.vc_snapshots:CreateVcSnapshot',
    'vc snapshot delete': 'cinder_vmdk_ext.cmd.vc_snapshots:DeleteVcSnapshot',
    'vc snapshot export': 'cinder_vmdk_ext.cmd.vc_snapshots:ExportVcSnapshot',
    'vc snapshot rename': 'cinder_vmdk_ext.cmd.vc_snapshots:RenameVcSnapshot',
    'vc snapshot revert': 'cinder_vmdk_ext.cmd.vc_snapshots:RevertVcSnapshot',
    'vc snapshot tree': 'cinder_vmdk_ext.cmd.vc_snapshots:TreeVcSnapshot',
    'volume adopt': 'cinder_vmdk_ext.cmd.adopting:AdoptVolume',
    'volume list': 'cinder_vmdk_ext.cmd.volumes:ListVolume',
    'volume relink': 'cinder_vmdk_ext.cmd.relinking:RelinkVolume',
    'volume show': 'cinder_vmdk_ext.cmd.volumes:ShowVolume',
}
_BACKENDS = metadata.EntryPoint('backends', 'cinder_vmdk_ext.cmd.backend', '')
# cliff's results of an interrupt, and of output that is not read to its end.
_INTERRUPTED = 130
_NOT_READ = 141


class _Commands(commandmanager.CommandManager):
    """The commands by their names."""

    def load_commands(self, namespace: str) -> None:
        """Load the commands of ``COMMANDS`` only (cliff)."""
        for name, place in COMMANDS.items():
            self.commands[name] = metadata.EntryPoint(name, place, namespace)


class _OneLine(logging.Formatter):
    """Shows an error as one line; ``--debug`` shows the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """The first line of a message, after its level."""
        text = record.getMessage().strip().partition('\n')[0].strip()
        return (f'{record.levelname.capitalize()}: '
                + (columns.visible(text) or 'no reason given'))


class Application(app.App):
    """The application with the commands (cliff)."""

    # The same name, however the command is started.
    NAME = 'cinder-vmdk-ext'
    LOG = logging.getLogger(NAME)
    INTERRUPTED = ('interrupted; what was done so far stays, and the command '
                   'can be repeated')

    def __init__(self, backends: Any = None, **streams: Any) -> None:
        """Prepare, without an import that takes long.

        :param backends: the module that opens the backends of a cinder.conf;
            default: ``cmd.backend``
        :param streams: ``stdin``, ``stdout`` and ``stderr``, as cliff's
        """
        super().__init__(
            description="Checks and repairs the volumes of cinder_vmdk_ext.",
            version=metadata.version('cinder-vmdk-ext'),
            command_manager=_Commands('cinder_vmdk_ext.commands'),
            deferred_help=True, **streams)
        for stream in (self.stdout, self.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A name that the terminal's encoding lacks must not end a
                # command after its work.
                stream.reconfigure(errors='backslashreplace')
        self._backends = backends
        # Results of the commands, for the exit status.
        self.found = False
        self.lost = False
        self.failed = False
        self.misused = False
        self._unanswered = False
        self._is_working = False

    @property
    def backends(self) -> Any:
        """The module that opens the backends of a cinder.conf."""
        if self._backends is None:
            self._backends = _BACKENDS.load()
        return self._backends

    def build_option_parser(
            self, description: str | None, version: str | None,
            argparse_kwargs: dict[str, Any] | None = None
            ) -> argparse.ArgumentParser:
        """The options that precede a command."""
        parser = argparse.ArgumentParser(
            prog=self.NAME, description=description, add_help=False,
            **(argparse_kwargs or {}))
        self.refuse_wrong_usage(parser)
        parser.add_argument('--version', action='version',
                            version=f'{self.NAME} {version}')
        loudness = parser.add_mutually_exclusive_group()
        loudness.add_argument(
            '-v', '--verbose', action='count', dest='verbose_level',
            default=self.DEFAULT_VERBOSE_LEVEL,
            help='also show warnings of the driver and of libraries; -vv: '
            'also their progress; -vvv: everything')
        loudness.add_argument(
            '-q', '--quiet', action='store_const', dest='verbose_level',
            const=0, help='show errors only (the default)')
        parser.add_argument('--log-file', metavar='FILE',
                            help='write all log messages to a file')
        parser.add_argument('-h', '--help', action='store_true',
                            dest='deferred_help', help='show this help')
        parser.add_argument('--debug', action='store_true',
                            help='show the traceback of an error')
        return parser

    def refuse_wrong_usage(self, parser: argparse.ArgumentParser) -> None:
        """Have a parser end with one line and 2 where it is called wrongly.

        argparse itself would show the usage too, which fills a screen here.
        """
        def error(message: str) -> None:
            self.misused = True
            if not hasattr(self, 'options'):
                # The options before the command are wrong: without them.
                self.options = self.parser.parse_args([])
                self.configure_logging()
            self.LOG.error('%s; see %s --help', message, parser.prog)
            raise SystemExit(2)
        setattr(parser, 'error', error)

    def initialize_app(self, argv: list[str]) -> None:
        """Refuse options without a command; there is no shell (cliff)."""
        if not argv and not self.options.deferred_help:
            self.parser.error('there is no command')

    def configure_logging(self) -> None:
        """Log errors to stderr as one line, and more as the options say."""
        root = logging.getLogger('')
        verbose = self.options.verbose_level
        level = {0: None, 1: None, 2: logging.WARNING,
                 3: logging.INFO}.get(verbose, logging.DEBUG)
        for logger, least in ((self.LOG, logging.INFO), (root, level)):
            logger.handlers = [each for each in logger.handlers
                               if not isinstance(each, _Console)]
            if least is not None:
                console = _Console(self.stderr)
                console.setLevel(least)
                if not self.options.debug:
                    console.setFormatter(_OneLine())
                logger.addHandler(console)
        if level is None:
            # Without a handler, Python itself writes warnings to stderr.
            root.addHandler(logging.NullHandler())
        self.LOG.propagate = False
        self.LOG.setLevel(logging.INFO)
        if level is not None:
            root.setLevel(level)
            warnings.resetwarnings()
        if self.options.log_file:
            root.setLevel(logging.DEBUG)
            kept = logging.FileHandler(self.options.log_file)
            kept.setFormatter(logging.Formatter(self.LOG_FILE_MESSAGE_FORMAT))
            for logger in (root, self.LOG):
                logger.addHandler(kept)

    def run(self, argv: list[str]) -> int:
        """Run a command.

        :returns: the exit status: 0: success, no findings; 1: failure, or a
            question that was not answered with yes; 2: wrong usage;
            3: findings; 4: findings, among them a lost volume
        """
        try:
            status = super().run(argv or ['--help'])
        except SystemExit as end:  # of argparse
            status = end.code if isinstance(end.code, int) else 0
            return self._written(status if argv else 2)
        if status == _INTERRUPTED:
            self.LOG.error(self.INTERRUPTED)
            status = 1
        if status == _NOT_READ:
            # If the work is done, "head" has seen what it wanted.
            status = int(self._is_working)
        if self.misused:
            return self._written(2)
        if status or self.failed:
            return self._written(status or 1)
        return self._written(4 if self.lost else 3 if self.found else 0)

    def _written(self, status: int) -> int:
        """Write what is left of the output; return the exit status."""
        try:
            self.stdout.flush()
        except OSError as error:
            # Otherwise Python would try again at its end, and complain.
            with contextlib.suppress(OSError, ValueError), open(
                    os.devnull, 'w', encoding='utf-8') as nowhere:
                os.dup2(nowhere.fileno(), self.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                self.LOG.error('the output could not be written: %s', error)
                return status or 1
        return status

    def run_subcommand(self, argv: list[str]) -> int:
        """Run the command that ``argv`` names (cliff)."""
        try:
            self.command_manager.find_command(argv)
        except ValueError:
            like = ', '.join(map(repr, self.get_fuzzy_matches(argv[0])))
            self.LOG.error('%r is not a command%s; see %s --help',
                           ' '.join(argv),
                           f' (did you mean {like}?)' if like else '',
                           self.NAME)
            return 2
        return super().run_subcommand(argv)

    @staticmethod
    def write(path: str, content: str) -> None:
        """Replace a file at once, so that no reader sees half of it.

        A file keeps its mode, and a link stays a link. What is no file (a
        named pipe), and what others have opened (/dev/stdout), is appended to.
        """
        if os.path.exists(path) and not os.path.isfile(path) or (
                os.path.abspath(path).startswith(
                    ('/dev/fd/', '/dev/std', '/proc/'))):
            with open(path, 'a', encoding='utf-8') as stream:
                stream.write(content)
            return
        path = os.path.realpath(path)
        mode = (stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path)
                else 0o644)
        folder, name = os.path.split(path)
        handle, made = tempfile.mkstemp(prefix=f'.{name}.', dir=folder)
        try:
            with os.fdopen(handle, 'w', encoding='utf-8') as stream:
                stream.write(content)
            os.chmod(made, mode)
            os.replace(made, path)
        except BaseException:
            os.unlink(made)
            raise

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """While a command works, a reader that is gone is a failure."""
        self._is_working = True
        yield
        self._is_working = False

    def agreed(self, question: str) -> bool:
        """Ask on the terminal; return whether the answer is yes.

        With another answer the command exits with 1: it did not do all that
        it was to do.
        """
        try:
            self.stderr.write(f'{columns.visible(question)} [y/N] ')
            self.stderr.flush()
        except BrokenPipeError:
            self.failed = True
            return False
        answer = self.stdin.readline()
        if answer.strip().lower() in ('y', 'yes'):
            return True
        self.failed = True
        if not answer and not self._unanswered:
            self._unanswered = True
            self.stderr.write('\n')
            self.LOG.error('the question got no answer; --yes answers it')
        return False

    def ask(self, question: str, secret: bool = False) -> str:
        """Ask on the terminal (stderr); return the answer from stdin.

        :param secret: do not show the answer while it is typed
        """
        if secret and self.stdin.isatty():
            return getpass.getpass(question, self.stderr)
        self.stderr.write(question)
        self.stderr.flush()
        return str(self.stdin.readline()).rstrip('\n')


class _Console(logging.StreamHandler):
    """A handler of this application, by its class."""


def main(argv: list[str] | None = None) -> int:
    """The console script."""
    if not sys.warnoptions:
        # Warnings of libraries are for their developers.
        warnings.simplefilter('ignore')
    for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
        if getattr(sys, name) is None:
            # The shell has closed it (">&-"); libraries expect a stream.
            setattr(sys, name, open(os.devnull, mode, encoding='utf-8'))
    return Application().run(sys.argv[1:] if argv is None else argv)


if __name__ == '__main__':
    sys.exit(main())
