# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext bundle``: the facts for a fault report, in one file.

Two measures keep secrets out. The file shows values only of the options that
are listed here, and of the driver's own. And each value in the configuration
that may be a secret is masked in everything that is written.
"""

import argparse
import base64
import contextlib
import dataclasses
import html
import io
import itertools
import json
import os
import platform
import re
import tarfile
import time
import urllib.parse
from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from importlib import metadata
from typing import Any
from xml.sax import saxutils

from oslo_config import cfg
from oslo_utils import strutils
from oslo_utils import timeutils

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import facts
from cinder_vmdk_ext import exceptions

MASK = '***'
#: A longer file is cut.
MOST_BYTES = 5 << 20
_MOST_FINDINGS = 10000
_MOST_LINES = 2000
_LONGEST_LINE = 2000
_LOG_BYTES = 8 << 20
_PACKAGES = ('cinder-vmdk-ext', 'cinder', 'oslo.vmware', 'oslo.config',
             'oslo.log', 'oslo.messaging', 'tooz', 'eventlet', 'cliff',
             'lxml', 'requests', 'urllib3', 'prometheus_client')
# Options of Cinder whose values are shown.
_SHOWN = frozenset({
    'enabled_backends', 'default_volume_type', 'debug', 'host', 'cluster',
    'storage_availability_zone', 'state_path', 'lock_path', 'log_file',
    'log_dir', 'scheduler_default_filters', 'scheduler_default_weighers',
    'volume_name_template', 'snapshot_name_template', 'report_interval',
    'service_down_time', 'image_volume_cache_enabled', 'backend_host',
    'volume_driver', 'backend_url'})
_SECRET = re.compile('pass|pwd|secret|token|key|credential|cookie|session|'
                     'connection|url|auth', re.IGNORECASE)
# Names of options whose values are secrets in all their parts; a URL has
# parts that are none.
_ONLY_SECRET = re.compile('pass|pwd|secret|token|key|credential|cookie',
                          re.IGNORECASE)
# A password may contain the characters that end a URL's part, and a URL of
# oslo.messaging may name several servers, each with its user.
_USERINFO = re.compile(r'(?:(?<=://)|(?<=,))[^\s,"\'<>]*@')
# Credentials that no option holds: of a request's headers, and tokens.
_PASSING = re.compile(
    r'\b(?:(?<=Basic )[\w+/=-]{8,}|(?<=Bearer )\S{8,}'
    r'|gAAAA[\w=-]{20,}|eyJ[\w-]{8,}(?:\.[\w-]+)+)'
    r'|(?<=vmware_soap_session)["=: ]+[\w-]{8,}'
    r'|(?<=-----BEGIN) [A-Z ]*PRIVATE KEY-----[^-]*')
_WITH_USERS = re.compile(r'://(\S*)@')
_SECRET_VARIABLE = re.compile('PASSWORD|PASSWD|SECRET|TOKEN')
_CODED = re.compile('%[0-9A-F]{2}')
_GRAVE = re.compile(r'\b(WARNING|ERROR|CRITICAL)\b|Traceback|^\S*Error\b')
# Masking shorter words would make the text useless.
_SHORTEST = 3
# A part of a list, and a coded form, are masked from this length on.
_LONG = 6


class Secrets:
    """The secrets in configuration files, which must not be written."""

    def __init__(self, sections: Mapping[str, Mapping[str, list[str]]],
                 variables: Mapping[str, str] = os.environ) -> None:
        """:param sections: values by options, by sections
        :param variables: of the environment, as OS_PASSWORD
        """
        found: set[str] = set()
        for options in (*sections.values(), {
                name: [value] for name, value in variables.items()
                if _SECRET_VARIABLE.search(name)}):
            for name, values in options.items():
                for value in values:
                    found |= set(_secret_parts(name, value))
        forms = {form for each in found if len(each) >= _SHORTEST
                 for form in _forms(each)}
        self._found = sorted(
            (each for each in forms if len(each) >= _SHORTEST),
            key=len, reverse=True)

    def masked(self, value: Any) -> Any:
        """A value with all secrets in it masked, at any depth."""
        if isinstance(value, str):
            for secret in self._found:
                value = value.replace(secret, MASK)
            return _PASSING.sub(MASK, _USERINFO.sub(
                f'{MASK}@', strutils.mask_password(value)))
        if isinstance(value, Mapping):
            return {self.masked(key): self.masked(each)
                    for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.masked(each) for each in value]
        return value


def _secret_parts(name: str, value: str) -> Iterator[str]:
    """The parts of an option's value that may be secrets, in each form."""
    for users in _WITH_USERS.findall(value):
        # One server whose password may have any characters, or several.
        yield users.partition(':')[2]
        for each in users.split(','):
            yield (each.rpartition('@')[0] or each).partition(':')[2]
    if _SECRET.search(name) and not value.startswith('file://') and (
            value.strip().lower() not in ('true', 'false', 'keystone', '')):
        value = value.strip().strip('"\'')
        yield value
        if _ONLY_SECRET.search(name):
            yield from (each for each in re.split(r'[\s,;]+', value)
                        if len(each) >= _LONG)


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written in a log, a URL, XML, JSON or Python."""
    # cinder.conf has $$ for a $.
    for plain in {secret, secret.replace('$$', '$'),
                  urllib.parse.unquote(secret)}:
        yield from (plain, html.escape(plain), saxutils.escape(plain),
                    repr(plain)[1:-1], json.dumps(plain)[1:-1])
        for quoted in (urllib.parse.quote(plain),
                       urllib.parse.quote_plus(plain),
                       urllib.parse.quote(plain, safe='')):
            yield from (quoted, _CODED.sub(
                lambda found: found[0].lower(), quoted))
        data = plain.encode('utf-8')
        for encode in base64.b64encode, base64.urlsafe_b64encode:
            for before in range(3):
                # Within a longer text, its first and last characters also
                # depend on the neighbours.
                coded = encode(b'\0' * before + data).decode('ascii')
                kept = coded.rstrip('=')[before and before + 1:]
                if (before + len(data)) % 3:
                    kept = kept[:-1]
                if len(kept) >= _LONG:
                    yield kept
        if len(data) >= _SHORTEST + 1:
            yield data.hex()


def read(files: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Sections of configuration files: the values of each option."""
    sections: dict[str, dict[str, list[str]]] = {}
    for path in files:
        cfg.ConfigParser(path, sections).parse()
    return sections


def shown(sections: Mapping[str, Mapping[str, list[str]]],
          own: Iterable[str], backends: Iterable[str]) -> dict[str, Any]:
    """The configuration with the values that may be shown.

    :param own: options of the driver that are no secrets
    :param backends: sections of this driver
    """
    ours = {*backends, 'backend_defaults'}
    own = frozenset(own)
    return {name: {
        option: values if option in _SHOWN or (
            name in ours and option in own) else [MASK]
        for option, values in options.items()}
        for name, options in sections.items()}


class Bundle(command.Listing):
    """Write the facts for a fault report to FILE, a tar.gz.

    It contains versions, the configuration without secrets, the inventory,
    the findings of an audit, and the last warnings and errors of the log. If
    the vCenter of a backend does not answer, it contains the reason. Only the
    owner may read the file. It names datastores, hosts and volumes: look at
    it before you pass it on.
    """

    COLUMNS = (columns.Column('name', 'Name'),
               columns.Column('size_bytes', 'Size', columns.size),
               columns.Column('problem', 'Problem'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='FILE',
                            help='file to write, which must not exist')
        parser.add_argument(
            '--service-log', action='append', default=[], metavar='FILE',
            help="the service's log; may be repeated; default: the one that "
                 'cinder.conf names')
        parser.add_argument('--no-audit', action='store_true',
                            help='leave out the audit, which searches the '
                            'datastores')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Collect and write."""
        names = self.names(parsed_args)
        sections = read(parsed_args.config_file
                        or self.app.backends.config_files())
        secrets = Secrets(sections)
        with self.calling(OSError):
            handle = os.open(parsed_args.file,
                             os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        rows = []
        try:
            with os.fdopen(handle, 'wb') as stream, tarfile.open(
                    fileobj=stream, mode='w:gz') as archive:
                for name, content, problem in itertools.chain(
                        self._of_machine(names, sections),
                        *(self._of_backend(each, parsed_args)
                          for each in names),
                        _logs(parsed_args.service_log
                              or _log_files(sections), secrets)):
                    data = _data(secrets.masked(content))
                    _add(archive, name, data)
                    self.app.found |= bool(problem)
                    rows.append((name, len(data), secrets.masked(problem)))
        except BaseException:
            # A part of a report would refuse the repeat.
            os.unlink(parsed_args.file)
            raise
        return rows

    def _of_machine(self, names: list[str],
                    sections: dict[str, dict[str, list[str]]]
                    ) -> Iterator[tuple[str, Any, str]]:
        yield 'versions.json', _versions(), ''
        own = {option.dest for option
               in self.app.backends.driver_options() if not option.secret}
        yield 'options.json', shown(sections, own, names), ''

    def _of_backend(self, name: str, parsed_args: argparse.Namespace
                    ) -> Iterator[tuple[str, Any, str]]:
        try:
            with self.app.backends.opened(name) as opened:
                about = opened.session.vim.service_content.about
                yield f'{name}/vcenter.json', {
                    key: getattr(about, key, None) for key in (
                        'fullName', 'apiVersion', 'build')}, ''
                yield f'{name}/inventory.json', json.loads(facts.dump(
                    {name: facts.LiveFacts(opened).saved()},
                    timeutils.utcnow(with_timezone=True))), ''
                if not parsed_args.no_audit:
                    yield f'{name}/audit.json', _audited(opened), ''
        except Exception as error:
            # The report may be about this error.
            yield (f'{name}/error.txt', f'{type(error).__name__}: {error}',
                   exceptions.first_line(error))


def _versions() -> dict[str, Any]:
    found = {'python': platform.python_version(),
             'platform': platform.platform()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _audited(opened: Any) -> dict[str, Any]:
    found = compare.compare(collect.EvidenceReader(opened).read())
    return {'count': len(found), 'findings': [
        dataclasses.asdict(each) for each in found[:_MOST_FINDINGS]]}


def _log_files(sections: dict[str, dict[str, list[str]]]) -> list[str]:
    options = sections.get('DEFAULT', {})
    folder = options.get('log_dir', [''])[-1]
    name = options.get('log_file', ['cinder-volume.log' if folder else ''])[-1]
    return [os.path.join(folder, name)] if name else []


def _logs(paths: Iterable[str], secrets: Secrets
          ) -> Iterator[tuple[str, Any, str]]:
    for number, path in enumerate(paths):
        try:
            with open(path, 'rb') as stream:
                begin = max(0, os.path.getsize(path) - _LOG_BYTES)
                stream.seek(begin)
                data = stream.read(_LOG_BYTES)
        except OSError as error:
            yield f'log-{number}.txt', str(error), str(error)
            continue
        if begin:  # half a line may hold half a secret, which is not known
            data = data.partition(b'\n')[2]
        text = data.decode('utf-8', 'replace')
        # Likewise it is cut only after it is masked.
        lines = deque((secrets.masked(line)[:_LONGEST_LINE]
                       for line in text.splitlines()
                       if _GRAVE.search(line)), _MOST_LINES)
        yield f'log-{number}.txt', '\n'.join(lines) + '\n', ''


def _data(content: Any) -> bytes:
    text = content if isinstance(content, str) else json.dumps(
        content, indent=1, sort_keys=True, default=str)
    data = text.encode('utf-8')
    if len(data) > MOST_BYTES:
        data = data[:MOST_BYTES] + b'\n(cut here: it is longer)\n'
    return data


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(f'cinder-vmdk-ext/{name}')
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(data))
