# SPDX-License-Identifier: Apache-2.0
"""Reads a backend's section of a cinder.conf by Cinder's own code."""

import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from cinder.volume import configuration
from cinder.volume import driver as volume_driver

from cinder_vmdk_ext import config
from sandbox import service_user

NAME = 'vmdk'
# No message and no log line may contain this.
PASSWORD = 'Pa55-w0rd<&>"%s'


def read(**options: Any) -> configuration.Configuration:
    """The section in the form that a driver gets from Cinder.

    :param options: a list repeats an option, None leaves it out
    """
    return read_all({NAME: options})[NAME]


def read_all(sections: Mapping[str, Mapping[str, Any]]
             ) -> dict[str, configuration.Configuration]:
    """The sections of several backends.

    :param sections: the options of each, as those of :func:`read`
    """
    lines = []
    for section, options in sections.items():
        lines.append(f'[{section}]')
        lines += [line for name, value in options.items()
                  for line in _lines(name, value)]
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write('\n'.join(lines) + '\n')
        file.flush()
        cfg.CONF(['--config-file', file.name], project='cinder',
                 default_config_dirs=[])
    return {section: _section(section) for section in sections}


def _lines(name: str, value: Any) -> Iterator[str]:
    for each in value if isinstance(value, (list, tuple)) else [value]:
        if each is not None:
            # oslo.config reads a $ as the name of another option.
            yield f'{name} = {str(each).replace("$", "$$")}'


def _section(name: str) -> configuration.Configuration:
    found = configuration.Configuration(volume_driver.volume_opts,
                                        config_group=name)
    found.append_config_values(config.vmdk_ext_opts)
    return found


def of_vcenter(vcenter: Any, **options: Any) -> Mapping[str, Any]:
    """Options that lead to a simulated vCenter, and those that differ.

    They are for the service's own user, which has only the needed privileges.
    """
    login = service_user.of(vcenter)
    return {
        'volume_backend_name': NAME, 'vmware_host_ip': vcenter.host,
        'vmware_host_port': vcenter.port,
        'vmware_host_username': login.user,
        'vmware_host_password': login.password,
        'vmware_ca_file': vcenter.cacert,
        'vmware_task_poll_interval': 0.1, 'vmware_lazy_create': False,
        'vmware_api_retry_count': 2,
    } | options
