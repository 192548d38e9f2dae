# SPDX-License-Identifier: Apache-2.0
"""Finds mistakes in a backend's section that oslo.config does not report.

oslo.config replaces ``$name`` by the value of another option, reports a wrong
value only when the option is first used, and ignores names that it does not
know. This module reports each mistake in one sentence when the service
starts. No sentence contains the value of a secret option.
"""

import difflib
import glob
import os
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import versionutils

from cinder.volume import configuration as cinder_configuration

from cinder_vmdk_ext import exceptions

LOG = logging.getLogger(__name__)

_PREFIXES = ('vmdk_ext', 'vmware')
# A name that is this similar to one of our options is taken for it.
_ALIKE = 0.85
# A reference that oslo.config replaces; $$ and \$ stand for a $.
_REFERENCE = re.compile(r'(?<![$\\])(?:\$\$)*\$(?:\{|[_a-z])', re.IGNORECASE)
_TEXTS = ('vmware_host_username', 'vmware_host_password')
#: A vCenter's limit for the name of an object.
MOST_NAME_LETTERS = 79
_AT_LEAST = (('vmware_api_retry_count', 0),
             ('vmware_max_objects_retrieval', 1),
             ('vmware_connection_pool_size', 1),
             ('vmware_image_transfer_timeout_secs', 1))


def check(configuration: Any, options: Iterable[cfg.Opt]) -> None:
    """Check the options of a backend that no other code checks.

    :param options: all options of the driver
    :raises InvalidSettings: for the first option whose value cannot work
    """
    for option in options:
        _check_readable(configuration, option)
    get = configuration.safe_get
    for name, least in _AT_LEAST:
        value = get(name)
        if value is not None and value < least:
            raise exceptions.InvalidSettings(
                name, f'{value} is too small', f'set at least {least}')
    if get('vmware_task_poll_interval') is not None and (
            not get('vmware_task_poll_interval') > 0):
        raise exceptions.InvalidSettings(
            'vmware_task_poll_interval',
            f'{get("vmware_task_poll_interval")} is no pause',
            'set a number of seconds above 0')
    _check_address(get('vmware_host_ip'))
    _check_folder(get('vmware_volume_folder'))
    _check_version(get('vmware_host_version'))


def _check_readable(configuration: Any, option: cfg.Opt) -> None:
    """Read an option, to find the errors that its first use would raise."""
    try:
        getattr(configuration, option.dest)
    except (cfg.TemplateSubstitutionError, cfg.NoSuchOptError):
        raise exceptions.InvalidSettings(
            option.name, 'its value has a $ before a name, which oslo.config '
            'replaces by the value of another option, and there is no option '
            'of that name', 'write $$ for each $') from None
    except (cfg.ConfigFileValueError, ValueError) as error:
        problem = ('its value is of another type' if option.secret
                   else ' '.join(str(error).split()))
        raise exceptions.InvalidSettings(
            option.name, problem, 'correct it, and write no comment after '
            'the value') from None


def _check_address(address: str | None) -> None:
    if address and re.search(r'[\s/@?#,;]', address):
        raise exceptions.InvalidSettings(
            'vmware_host_ip', f'{address!r} is not only a name or address',
            'set it without https:// and path, and set vmware_host_port to '
            'the port')


def _check_folder(name: str | None) -> None:
    if name is None:
        return
    if not name.strip() or len(name) > MOST_NAME_LETTERS:
        raise exceptions.InvalidSettings(
            'vmware_volume_folder', f'{name!r} cannot be the name of a folder',
            f'set a name of 1 to {MOST_NAME_LETTERS} letters, or remove the '
            'line for Volumes')


def _check_version(version: str | None) -> None:
    if not version:
        return
    try:
        versionutils.convert_version_to_tuple(version)
    except ValueError:
        raise exceptions.InvalidSettings(
            'vmware_host_version', f'{version!r} is no version',
            'set one like 8.0.3, or remove the line: the driver then reads '
            'the version from the vCenter') from None


# -- Lines of the configuration files ---------------------------------------

def warn(section: str, options: Iterable[cfg.Opt]) -> None:
    """Log a WARNING for each line of the section that has no effect.

    :param section: the backend's section
    :param options: all options of the driver
    """
    for mistake in mistakes(section, options):
        LOG.warning('%s', mistake)


def mistakes(section: str, options: Iterable[cfg.Opt]) -> Iterator[str]:
    """Yield a sentence for each line of the section that has no effect.

    Options whose ``$`` oslo.config replaces are included.

    :param section: the backend's section
    :param options: all options of the driver
    """
    ours = {option.dest for option in options}
    for name in dict.fromkeys((section,
                               cinder_configuration.SHARED_CONF_GROUP)):
        known = set(cfg.CONF[name]) if name in cfg.CONF else ours
        for path, lines in _sections(name):
            for found in unknown(lines, known, ours):
                yield f'{path}, section [{name}]: {found}'
            for option in replaced(lines):
                yield (f'{path}, section [{name}]: {option} has a $ '
                       'before a name, which oslo.config replaces by the '
                       'value of another option; write $$ for each $ of the '
                       'value itself.')


def unknown(lines: Iterable[str], known: Iterable[str],
            ours: Iterable[str]) -> list[str]:
    """Names in a section that are no options but are for this driver.

    :param lines: the names in the section
    :param known: the options that the section may have
    :param ours: the options of this driver
    :returns: a sentence for each name
    """
    found = []
    for name in sorted(set(lines) - set(known) - set(ours)):
        plain = name.lower().replace('-', '_')
        near = difflib.get_close_matches(plain, sorted(ours), 1)
        alike = near and difflib.SequenceMatcher(
            None, plain, near[0]).ratio() >= _ALIKE
        if alike or plain.startswith(_PREFIXES):
            found.append(f'{name} is no option and has no effect'
                         + (f'; {near[0]} may be meant.' if near else '.'))
    return found


def replaced(lines: Mapping[str, list[str]]) -> list[str]:
    """The options whose text contains a reference by mistake."""
    return [name for name in _TEXTS
            if any(_REFERENCE.search(value)
                   for value in lines.get(name, ()))]


def _sections(name: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield the section's lines in each file of the configuration."""
    for path in _files():
        sections: dict[str, dict[str, list[str]]] = {}
        try:
            cfg.ConfigParser(path, sections).parse()
        except (OSError, ValueError, cfg.ParseError) as error:
            LOG.debug('%(path)s was not read again: %(error)s',
                      {'path': path, 'error': error})
            continue
        if name in sections:
            yield path, sections[name]


def _files() -> Iterator[str]:
    yield from cfg.CONF.config_file or ()
    for folder in cfg.CONF.config_dir or ():
        yield from sorted(glob.glob(os.path.join(folder, '*.conf')))
