# SPDX-License-Identifier: Apache-2.0
"""Calls and seconds of the listings and of `check`, on a large vCenter.

500 datastores, 64 hosts and 5,000 VMs, each of which a volume's record names
as its own. ``make cli-scale``
"""

import argparse
import contextlib
import io
import json
import tempfile
import time

from oslo_config import cfg
from oslo_utils import timeutils
from pyVmomi import vim

from cinder import context as cinder_context
from cinder import coordination
from cinder.db import api as db_api
from cinder.db import models
from cinder.volume import volume_types

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.cmd import main as command
from cinder_vmdk_ext import driver
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case
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
    rows = [{
        'id': found['config.instanceUuid'], 'size': 1,
        'host': f'{HOST}#LocalDS_0', 'status': 'available',
        'attach_status': 'detached', 'project_id': 'p', 'user_id': 'u',
        'provider_id': state.BACKED, 'display_name': 'v',
        'created_at': timeutils.utcnow(), 'deleted': False,
        'volume_type_id': type_id} for _vm, found
        in observer.properties_of_all(
            service, vim.VirtualMachine, 'config.instanceUuid')]
    with db_api.main_context_manager.writer.using(context) as session:
        session.bulk_insert_mappings(models.Volume, rows)


def measured(backend, words):
    """How many calls a command makes, and its seconds."""
    out = io.StringIO()
    with backend_case.counting() as made:
        begin, cpu = time.monotonic(), time.process_time()
        command.Application(command_case.Backends(backend), stdout=out,
                            stderr=io.StringIO()).run(
            [*words, '--format', 'json'])
        end, cpu_end = time.monotonic(), time.process_time()
    return {'command': ' '.join(words), 'rows': len(json.loads(
        out.getvalue())), 'seconds': round(end - begin, 2),
        'cpu_seconds': round(cpu_end - cpu, 2),
        'pages': made[PAGES], 'calls': made.total() - made[PAGES]}


@contextlib.contextmanager
def opened(datastores, hosts, machines):
    """The backend of a vCenter of that size, with a volume for each VM."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix='cinder-locks-'))
        cinder = stack.enter_context(database.Database())
        for option, value, group in (
                ('backend_url', f'file://{folder}', 'coordination'),
                ('lock_path', folder, 'oslo_concurrency')):
            cfg.CONF.set_override(option, value, group)
            stack.callback(cfg.CONF.clear_override, option, group)
        coordination.COORDINATOR.start()
        stack.callback(coordination.COORDINATOR.stop)
        vcenter = client.for_plugin(
            ds=datastores, cluster=1, host=hosts, standalone_host=0,
            vm=machines, ds_mount_all=True, ds_capacity='10TiB',
            autostart=False)
        vcenter.start(timeout_s=300)
        stack.callback(vcenter.stop)
        records(vcenter.connect(), cinder.context)
        made = driver.VmdkExtDriver(configuration=section.read(
            **section.of_vcenter(vcenter)), host=HOST)
        made.do_setup(cinder_context.get_admin_context())
        stack.callback(made.backend.end_session)
        yield made.backend


def main():
    """Measure on both sizes, a JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--small', action='store_true',
                        help='only 5 datastores and 50 VMs')
    for datastores, hosts, machines in [(5, 2, 50)] + (
            [] if parser.parse_args().small else [(500, 64, 5000)]):
        with opened(datastores, hosts, machines) as backend:
            for words in COMMANDS:
                print(json.dumps({'datastores': datastores,
                                  'volumes': machines}
                                 | measured(backend, words)), flush=True)


if __name__ == '__main__':
    main()
