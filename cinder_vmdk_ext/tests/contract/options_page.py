# SPDX-License-Identifier: Apache-2.0
"""The page of the options, made from their definitions.

    make options-page    writes docs/options.md anew

The text above the mark in that page is written by hand, and is kept.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any

from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import config
from tools import structure

PAGE = structure.ROOT / 'docs' / 'options.md'
MARK = '<!-- below: make options-page -->\n'
_TYPES = {
    'BoolOpt': 'true or false', 'FloatOpt': 'number',
    'IntOpt': 'whole number', 'PortOpt': 'port', 'StrOpt': 'text',
    'MultiStrOpt': 'text; may be repeated',
}
_NO_STATISTICS = ('no effect: the figures are always the vCenter\'s own')
#: What this driver does with each option of upstream's driver.
OF_UPSTREAM = {
    'vmware_host_ip': 'name or address of the vCenter, without `https://`',
    'vmware_host_port': 'port of its HTTPS service',
    'vmware_host_username': 'user; [what it must be allowed](privileges.md)',
    'vmware_host_password': 'its password; write `$$` for each `$`',
    'vmware_ca_file': 'file with the authorities that verify the vCenter; '
                      "without it, the system's",
    'vmware_insecure': 'verifies no certificate; no effect if '
                       '`vmware_ca_file` is set',
    'vmware_cluster_name': 'only datastores that hosts of these clusters '
                           'mount are pools; without it, all',
    'vmware_datastore_regex': 'only datastores whose names match, from their '
                              'start, are pools',
    'vmware_storage_profile': 'only datastores that comply with one of these '
                              'storage policies are pools; upstream only '
                              'counts their space',
    'vmware_enable_volume_stats': _NO_STATISTICS,
    'vmware_lazy_create': 'an empty volume gets its disk at its first use; '
                          'its pool counts the space from the start',
    'vmware_adapter_type': 'adapter of new empty disks, and of disks of '
                           'images that specify none',
    'vmware_snapshot_format': '`template`: a snapshot is a copy in a VM of '
                              "its own; `COW`: it is in the VM's snapshot "
                              'tree',
    'vmware_volume_folder': 'inventory folder of the VMs, below `OpenStack/'
                            'Project (...)` of each datacenter',
    'vmware_api_retry_count': 'how often a call is repeated that may be '
                              '[repeated](outages.md)',
    'vmware_task_poll_interval': 'how often, in seconds, a task is read while '
                                 'the long poll reports no changes',
    'vmware_max_objects_retrieval': 'objects in each part of a reply',
    'vmware_connection_pool_size': 'idle connections that are kept',
    'vmware_image_transfer_timeout_secs': 'seconds after which a transfer '
                                          'of an image fails',
    'vmware_tmp_dir': "only with `vmdk_ext_connector_credentials`: folder for "
                      "os-brick's copy of a disk, on its host",
    'vmware_host_version': 'version to assume, in place of the one that the '
                           'vCenter reports',
    'vmware_wsdl_location': 'no effect: the driver reads no WSDL',
}


def text(before: str) -> str:
    """The page.

    :param before: the page as it is, of which what is above the mark is kept
    """
    top = before.partition(MARK)[0]
    return '\n'.join([top + MARK, *_own(), *_upstream()]) + '\n'


def _own() -> Iterator[str]:
    yield "## The plugin's own options\n"
    for option in sorted(config.vmdk_ext_opts, key=lambda each: each.name):
        yield f'### {option.name}'
        yield f'{_type(option)}; default: {_default(option)}\n'
        yield _marked(option.help or '') + '\n'


def _upstream() -> Iterator[str]:
    yield "## Options of Cinder's VMware driver\n"
    yield '| option | | default | effect |\n|---|---|---|---|'
    for option in sorted(vmdk.vmdk_opts, key=lambda each: each.name):
        yield (f'| `{option.name}` | {_type(option)} | {_default(option)} | '
               f'{OF_UPSTREAM[option.name]} |')


def _type(option: Any) -> str:
    choices = getattr(option.type, 'choices', None)
    if choices:
        return ', '.join(f'`{each}`' for each in choices)
    least, most = (getattr(option.type, name, None) for name in ('min', 'max'))
    found = _TYPES[type(option).__name__]
    if least is not None and most is not None:
        return f'{found} from {least:g} to {most:g}'
    return found if least is None else f'{found}, at least {least:g}'


def _default(option: Any) -> str:
    if option.default is None:
        return 'none'
    if isinstance(option.default, bool):
        return f'`{str(option.default).lower()}`'
    return f'`{option.default}`'


def _marked(words: str) -> str:
    """Help with names of options and values as code."""
    return re.sub(r"'([^']+)'(?!\w)|\b(vmdk_ext_\w+)\b|(?<!\w)(/\w+)",
                  lambda found: f'`{"".join(filter(None, found.groups()))}`',
                  words)


def run() -> int:
    """Write the page."""
    PAGE.write_text(text(PAGE.read_text('utf-8')), 'utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(run())
