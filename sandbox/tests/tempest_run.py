# SPDX-License-Identifier: Apache-2.0
"""Tempest's volume tests on the cloud of `make sandbox CLOUD=1`.

    make tempest

Tempest and the plugin of Cinder come from their packages. Each failure and
each skip is printed with its reason; the exit code is 1 if any test failed.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

from sandbox import clients
from sandbox import configuration
from sandbox.services import environment
from sandbox.services import nova
from sandbox.services import running

ENVIRONMENT = environment.Environment('tempest-venv', '.installed')
TESTS = '(^tempest.api.volume)|(^cinder_tempest_plugin)'
FOLDER = configuration.BUILD / 'tempest'

# "{0} a.b.Class.test [1.5s] ... SKIPPED: why"; a class stands as
# "setUpClass (a.b.Class)".
_LINE = re.compile(r'^\{\d+\} (?P<test>.+?) (?:\[[\d.]+s\] )?\.\.\. '
                   r'(?P<outcome>ok|FAILED|SKIPPED)(?:: (?P<why>.*))?$')


class Outcome(NamedTuple):
    """What became of a test, or of all tests of a class."""

    test: str
    outcome: str
    why: str


def outcomes(output):
    """Each outcome that Tempest has printed, in its order."""
    return [Outcome(found['test'], found['outcome'], found['why'] or '')
            for found in map(_LINE.match, output.splitlines()) if found]


def settings(cloud, folder, ids):
    """Section -> options of tempest.conf.

    :param cloud: a RunningCloud
    :param folder: where Tempest keeps its locks and its log
    :param ids: of "image", "tiny" and "small" in that cloud
    """
    admin = cloud.login('admin')
    return {
        'DEFAULT': {'log_file': folder / 'tempest.log'},
        'oslo_concurrency': {'lock_path': folder / 'locks'},
        'auth': {
            'use_dynamic_credentials': True,
            'create_isolated_networks': False,
            'tempest_roles': 'member',
            'admin_username': admin['username'],
            'admin_password': admin['password'],
            'admin_project_name': admin['project_name'],
            'admin_domain_name': admin['user_domain_name'],
        },
        'identity': {'uri_v3': admin['auth_url'], 'auth_version': 'v3',
                     'v3_endpoint_type': 'public', 'region': 'RegionOne'},
        'service_available': {'cinder': True, 'glance': True, 'nova': True,
                              'neutron': True, 'swift': False,
                              'horizon': True},
        'dashboard': {'dashboard_url': cloud.dashboard_url},
        'image': {'disk_formats': 'vmdk', 'container_formats': 'bare'},
        'compute': {
            'image_ref': ids['image'], 'image_ref_alt': ids['image'],
            'flavor_ref': ids['tiny'], 'flavor_ref_alt': ids['small'],
            'volume_device_name': 'sdb',
            'build_timeout': 300, 'build_interval': 1,
            'min_microversion': '2.1', 'max_microversion': 'latest'},
        'compute-feature-enabled': {
            'resize': False, 'suspend': False, 'pause': False,
            'rescue': False, 'vnc_console': False, 'config_drive': False,
            'interface_attach': False, 'live_migration': False,
            'swap_volume': False, 'attach_encrypted_volume': False,
            'volume_multiattach': False},
        'validation': {'run_validation': False},
        'volume': {
            'catalog_type': 'volumev3', 'volume_type': 'thin',
            'storage_protocol': 'vmdk', 'vendor_name': 'VMware',
            'disk_format': 'vmdk', 'backup_driver': 'posix',
            'build_timeout': 300, 'build_interval': 1,
            'min_microversion': '3.0',
            'max_microversion': clients.API_VERSION,
            'manage_volume_ref': 'source-id,%s',
            'manage_snapshot_ref': 'source-id,%s'},
        'volume-feature-enabled': {
            'api_v3': True, 'backup': True, 'snapshot': True, 'clone': True,
            'manage_volume': True, 'manage_snapshot': True,
            'extend_attached_volume': True, 'multi_backend': False,
            'extend_volume_with_snapshot': True, 'consistency_group': True,
            'volume_revert': True, 'concurrency_tests': True},
    }


def prepare(cloud, folder):
    """Make a folder in which `tempest run` finds all that it needs."""
    # Both, or Tempest says that it has the workspace already.
    workspaces = folder.with_suffix('.workspaces')
    workspaces.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [ENVIRONMENT.program('tempest'), 'init', '--workspace-path',
         str(workspaces), str(folder)], check=True,
        capture_output=True, env={**os.environ, **ENVIRONMENT.variables()})
    admin = cloud.connection('admin')
    ids = {name: admin.compute.find_flavor(name, False).id
           for name, *_ in nova.FLAVORS}
    ids['image'] = admin.image.find_image(nova.IMAGE, False).id
    configuration.write_private(
        folder / 'etc' / 'tempest.conf',
        configuration.as_ini(settings(cloud, folder, ids)))


def summary(found):
    """What is worth reading of many outcomes, as lines."""
    lines = [f'{each.outcome} {each.test} {each.why}'.rstrip()
             for each in found if each.outcome != 'ok']
    counts = collections.Counter(each.outcome for each in found)
    lines.append('%d passed, %d failed, %d skipped' % (
        counts['ok'], counts['FAILED'], counts['SKIPPED']))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--regex', default=TESTS,
                        help='which tests (default: %(default)s)')
    parser.add_argument('--concurrency', type=int, default=2)
    options = parser.parse_args()
    ENVIRONMENT.require()
    prepare(running.RunningCloud(), FOLDER)
    with subprocess.Popen(
            [ENVIRONMENT.program('tempest'), 'run', '--regex', options.regex,
             '--concurrency', str(options.concurrency)],
            cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**os.environ, **ENVIRONMENT.variables()}
    ) as run, open(FOLDER / 'output', 'w') as output:
        for line in run.stdout:
            output.write(line)
            output.flush()
            if _LINE.match(line):
                print(line, end='', flush=True)
    found = outcomes((FOLDER / 'output').read_text())
    print('\n'.join(summary(found)))
    failed = [each for each in found if each.outcome == 'FAILED']
    return 1 if failed or not found else 0


if __name__ == '__main__':
    sys.exit(main())
