# SPDX-License-Identifier: Apache-2.0
"""Calls and seconds of the listings and of `check`, on a large vCenter.

500 datastores, 64 hosts and 5,000 VMs, each of which a volume's record names
as its own. ``make cli-scale``
"""

import argparse
import io
import json
import tempfile
import threading
import time
from unittest import mock

from oslo_config import cfg
from pyVmomi import vim

from cinder import context as cinder_context
from cinder import coordination
from cinder.db import api as db_api
from cinder.volume import volume_types

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.cmd import main as command
from cinder_vmdk_ext import driver
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.vsphere import soap
from sandbox.embedded import database
from sandbox.embedded import section
from simulator import client
from simulator import observer

HOST = f'cinder-1@{section.NAME}'
COMMANDS = (('pool', 'list'), ('volume', 'list'), ('check',))
# Of a large inventory a vCenter tells page by page.
PAGES = 'ContinueRetrievePropertiesEx'


def records(service, context):
    """A volume for each VM, as if the VM were its own."""
    type_id = volume_types.get_default_volume_type(context)['id']
    for _vm, found in observer.properties_of_all(
            service, vim.VirtualMachine, 'config.instanceUuid'):
        db_api.volume_create(context, {
            'id': found['config.instanceUuid'], 'size': 1,
            'host': f'{HOST}#LocalDS_0', 'status': 'available',
            'attach_status': 'detached', 'project_id': 'p', 'user_id': 'u',
            'provider_id': state.BACKED, 'display_name': 'v',
            'volume_type_id': type_id})


def measured(backend, words):
    """How many calls a command makes, and its seconds."""
    mine, call, made = threading.get_ident(), soap.Client.call, []

    def counted(asked, method, *arguments, **more):
        if threading.get_ident() == mine:
            made.append(method)
        return call(asked, method, *arguments, **more)

    out = io.StringIO()
    with mock.patch.object(soap.Client, 'call', counted):
        begin, cpu = time.monotonic(), time.process_time()
        command.Application(command_case.Backends(backend), stdout=out,
                            stderr=io.StringIO()).run(
            [*words, '--format', 'json'])
        end, cpu_end = time.monotonic(), time.process_time()
    return {'command': ' '.join(words), 'rows': len(json.loads(
        out.getvalue())), 'seconds': round(end - begin, 2),
        'cpu_seconds': round(cpu_end - cpu, 2),
        'pages': made.count(PAGES), 'calls': len(made) - made.count(PAGES)}


def main():
    """Measure on both sizes, a JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--small', action='store_true',
                        help='only 5 datastores and 50 VMs')
    folder = tempfile.TemporaryDirectory(prefix='cinder-locks-')
    sizes = [(5, 2, 50)] + ([] if parser.parse_args().small
                            else [(500, 64, 5000)])
    for datastores, hosts, machines in sizes:
        cinder = database.Database()
        cinder.setUp()
        cfg.CONF.set_override('backend_url', f'file://{folder.name}',
                              'coordination')
        cfg.CONF.set_override('lock_path', folder.name, 'oslo_concurrency')
        if not coordination.COORDINATOR.started:
            coordination.COORDINATOR.start()
        vcenter = client.for_plugin(
            ds=datastores, cluster=1, host=hosts, standalone_host=0,
            vm=machines, ds_mount_all=True, ds_capacity='10TiB',
            autostart=False)
        vcenter.start(timeout_s=300)
        try:
            records(vcenter.connect(), cinder.context)
            made = driver.VmdkExtDriver(configuration=section.read(
                **section.of_vcenter(vcenter)), host=HOST)
            made.do_setup(cinder_context.get_admin_context())
            for words in COMMANDS:
                print(json.dumps({'datastores': datastores,
                                  'volumes': machines}
                                 | measured(made.backend, words)), flush=True)
            made.backend.end_session()
        finally:
            vcenter.stop()
            cinder.cleanUp()


if __name__ == '__main__':
    main()
