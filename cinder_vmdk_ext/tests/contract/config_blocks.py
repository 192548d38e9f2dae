# SPDX-License-Identifier: Apache-2.0
"""Loads pieces of cinder.conf as cinder-volume would.

    python -m cinder_vmdk_ext.tests.contract.config_blocks <blocks.json

It is a separate process, because the modules of cinder-volume register all
its options, and patch the standard library, when they are imported.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator

from oslo_config import cfg

from cinder import objects

objects.register_all()  # before the modules that use them are imported

from cinder.cmd import volume  # noqa: E402, F401 (for its options)
from cinder.scheduler import host_manager  # noqa: E402, F401 (the same)
from cinder.volume import configuration  # noqa: E402
from cinder.volume import driver as volume_driver  # noqa: E402
from cinder.volume import manager  # noqa: E402

from cinder_vmdk_ext import config  # noqa: E402
from cinder_vmdk_ext import driver  # noqa: E402
from cinder_vmdk_ext import exceptions  # noqa: E402
from cinder_vmdk_ext import option_check  # noqa: E402

COMMENT = re.compile(r'(^|\s)[#;]')


def problems(block: str) -> list[str]:
    """What is wrong with a block; nothing where it can be copied as it is."""
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(block)
        file.flush()
        sections: dict[str, dict[str, list[str]]] = {}
        try:
            cfg.ConfigParser(file.name, sections).parse()
            cfg.CONF(['--config-file', file.name], project='cinder',
                     default_config_dirs=[])
        except (cfg.Error, cfg.ParseError) as error:
            return [str(error)]
        found = [f'[{section}] {name}: {problem}'
                 for section, lines in sections.items()
                 for name, values in lines.items()
                 for problem in _of_option(section, name, values)]
        return found or [f'[{section}] {problem}' for section in sections
                         if section in _BACKENDS
                         for problem in _of_driver(section)]


def _of_driver(section: str) -> Iterator[str]:
    """What the driver itself says of its section when it starts.

    The blocks need not be complete: options may be missing.
    """
    options = driver.VmdkExtDriver.get_driver_options()
    backend = _backend(section)
    yield from option_check.mistakes(section, options)
    try:
        option_check.check(backend, options)
        config.settings(backend)
    except exceptions.InvalidSettings as error:
        yield str(error)


def _of_option(section: str, name: str, values: list[str]) -> Iterator[str]:
    for value in values:
        if COMMENT.search(value):
            yield f'a comment behind the value becomes part of it: {value!r}'
    try:
        if section == 'DEFAULT':
            getattr(cfg.CONF, name)
        elif section in cfg.CONF and section not in _BACKENDS:
            getattr(getattr(cfg.CONF, section), name)
        else:
            getattr(_backend(section), name)
    except cfg.NoSuchOptError:
        yield 'there is no such option'
    except (cfg.Error, ValueError) as error:
        yield str(error)


_BACKENDS: set[str] = set()


def _backend(section: str) -> configuration.Configuration:
    _BACKENDS.add(section)
    return configuration.Configuration(
        [*volume_driver.volume_opts, *volume_driver.image_opts,
         *manager.volume_backend_opts,
         *driver.VmdkExtDriver.get_driver_options()], config_group=section)


if __name__ == '__main__':
    json.dump([problems(block) for block in json.load(sys.stdin)], sys.stdout)
