# SPDX-License-Identifier: Apache-2.0
"""Tempest's volume tests on the cloud of `make sandbox CLOUD=1`.

    make tempest

Tempest and the plugin of Cinder come from their packages. The results of all
tests are written into docs/tempest.md (see `tempest_record`); those of some
tests, chosen by --regex, are only printed. The exit code is 1 if a test
failed or was skipped without a reason in tempest_reasons.toml.

The output is kept in build/tempest-full, or build/tempest-lazy with lazy
creation on, as it comes. A run that was broken off is recorded as well; of
the classes that it did not reach, the earlier results stay, if they are of
the same releases. --resume runs the tests that have no result yet; --again
also those of a pattern, whose results it replaces. Where that output is gone,
--missing runs the classes of which docs/tempest.json has no whole result, and
adds them. Of each class it is recorded of which commit its results are.
"""

import argparse
import collections
import datetime
from importlib import metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from oslo_utils import strutils

from sandbox import clients
from sandbox import configuration
from sandbox.services import environment
from sandbox.services import nova
from sandbox.services import running
from sandbox.tests import tempest_record

ENVIRONMENT = environment.Environment('tempest-venv', '.installed')
TESTS = '|'.join(f'(^{re.escape(suite)})' for suite in tempest_record.SUITES)
# For a state; Tempest's own is 300, on a machine that has nothing else to do.
PATIENCE_SECONDS = 900
# What the docs had when a run began.
BEFORE = 'before.json'
# The files of a run that one which resumes it needs.
KEPT = ('planned', 'output', 'seconds', 'commits', BEFORE)
_RELEASES = ('tempest', 'cinder-tempest-plugin', 'cinder', 'nova')


def mode_of(cloud):
    """"lazy" or "full": how a running cloud creates volumes."""
    return 'lazy' if strutils.bool_from_string(cloud.option(
        'vcenter', 'vmware_lazy_create', 'true')) else 'full'


def folder_of(mode):
    """Where Tempest works and what it prints is kept."""
    return configuration.BUILD / f'tempest-{mode}'


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
        # For the tests of roles.
        'enforce_scope': {'cinder': True},
        'dashboard': {'dashboard_url': cloud.dashboard_url},
        'image': {'disk_formats': 'vmdk', 'container_formats': 'bare'},
        'compute': {
            'image_ref': ids['image'], 'image_ref_alt': ids['image'],
            'flavor_ref': ids['tiny'], 'flavor_ref_alt': ids['small'],
            'volume_device_name': 'sdb',
            'build_timeout': PATIENCE_SECONDS, 'build_interval': 1,
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
            'backend_names': ','.join(cloud.backends),
            'disk_format': 'vmdk', 'backup_driver': 'posix',
            'build_timeout': PATIENCE_SECONDS, 'build_interval': 1,
            'min_microversion': '3.0',
            'max_microversion': clients.API_VERSION,
            'manage_volume_ref': 'source-id,%s',
            'manage_snapshot_ref': 'source-id,%s'},
        'volume-feature-enabled': {
            'api_v3': True, 'backup': True, 'snapshot': True, 'clone': True,
            'manage_volume': True, 'manage_snapshot': True,
            'extend_attached_volume': True,
            'multi_backend': len(cloud.backends) > 1,
            'extend_volume_with_snapshot': True, 'consistency_group': True,
            'volume_revert': True, 'concurrency_tests': True},
    }


def prepare(cloud, folder, keep=()):
    """Make a folder in which `tempest run` finds all that it needs.

    :param keep: names of files that stay, if they are there
    """
    kept = {name: (folder / name).read_text() for name in keep
            if (folder / name).exists()}
    # Both, or Tempest says that it has the workspace already.
    workspaces = folder.with_suffix('.workspaces')
    workspaces.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [ENVIRONMENT.program('tempest'), 'init', '--workspace-path',
         str(workspaces), str(folder)], check=True,
        capture_output=True, env={**os.environ, **ENVIRONMENT.variables()})
    for name, text in kept.items():
        (folder / name).write_text(text)
    admin = cloud.connection('admin')
    ids = {name: admin.compute.find_flavor(name, False).id
           for name, *_ in nova.FLAVORS}
    ids['image'] = admin.image.find_image(nova.IMAGE, False).id
    configuration.write_private(
        folder / 'etc' / 'tempest.conf',
        configuration.as_ini(settings(cloud, folder, ids)))


def summary(found):
    """The outcomes but successes, and their numbers, as lines."""
    lines = [f'{each.outcome} {each.test} {each.why}'.rstrip()
             for each in found if each.outcome != tempest_record.PASSED]
    counts = collections.Counter(each.outcome for each in found)
    lines.append(', '.join(f'{counts[outcome]} {heading}' for outcome, heading
                           in tempest_record.OUTCOMES.items()))
    return lines


def _tempest(folder, *arguments, **how):
    """A process of `tempest` in its folder."""
    return subprocess.Popen(
        [ENVIRONMENT.program('tempest'), *arguments], cwd=folder,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **ENVIRONMENT.variables()}, **how)


def listed(folder, regex):
    """The tests that a pattern selects, as Tempest lists them."""
    with _tempest(folder, 'run', '--list-tests', '--regex', regex) as listing:
        found = [line for line in listing.stdout.read().splitlines()
                 if re.match(r'[\w.]+(\[.*\])?$', line) and '.' in line]
    if listing.returncode or not found:
        raise SystemExit(f'tempest cannot list its tests in {folder}')
    return found


def to_run(folder, again):
    """Those of the planned tests that have no outcome yet.

    :param again: a pattern of tests that are run once more; None: of none
    """
    _, found = results(folder)
    return [test for test in (folder / 'planned').read_text().splitlines()
            if tempest_record.name_of(test) not in found
            or again and re.search(again, test)]


def run(folder, tests, concurrency, commit):
    """Run tests, and keep what is printed in the folder as it comes.

    :param commit: what the cloud runs
    """
    with open(folder / 'commits', 'a') as commits:
        print(commit, file=commits)
    (folder / 'tests').write_text('\n'.join(tests) + '\n')
    began = time.monotonic()
    with _tempest(folder, 'run', '--load-list', 'tests', '--concurrency',
                  str(concurrency), stderr=subprocess.STDOUT) as process, \
            open(folder / 'output', 'a') as output:
        try:
            for line in process.stdout:
                output.write(line)
                output.flush()
                if tempest_record.outcomes(line):
                    print(line, end='', flush=True)
        except KeyboardInterrupt:
            # Its workers too; what ran is recorded.
            os.killpg(process.pid, signal.SIGTERM)
    with open(folder / 'seconds', 'a') as seconds:
        print(round(time.monotonic() - began), file=seconds)


def results(folder):
    """The names of the planned tests, and the outcomes so far."""
    names = [tempest_record.name_of(test) for test
             in (folder / 'planned').read_text().splitlines()]
    output = folder / 'output'
    return names, tempest_record.of_tests(tempest_record.outcomes(
        output.read_text() if output.exists() else ''), names)


def record(mode, folder):
    """Write into the docs what the runs of a mode have found.

    What the docs had before these runs stays, as far as they have no result
    in its place, and if it is of the same releases.
    """
    names, found = results(folder)
    commits = (folder / 'commits').read_text().splitlines()
    records = tempest_record.load()
    made = tempest_record.Record.of(
        found, names, ' or '.join(dict.fromkeys(commits)),
        releases=releases(),
        minutes=round(sum(map(int, (folder / 'seconds').read_text().split()))
                      / 60),
        date=datetime.date.today().isoformat())
    before = tempest_record.read(folder / BEFORE).get(mode)
    records[mode] = before.completed(made) if before else made
    tempest_record.save(records)


def releases():
    """Name of a package -> the version that is installed for the cloud."""
    places = [str(path) for each in (ENVIRONMENT, environment.SERVICES)
              for path in each.folder.glob('lib/python*/site-packages')]
    return {name: next(
        (one.version for one in metadata.distributions(
            name=name, path=[*places, *sys.path])), 'unknown')
            for name in _RELEASES}


def _options():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--regex', help='which tests (all by default)')
    parser.add_argument('--concurrency', type=int, default=2)
    parser.add_argument('--resume', action='store_true',
                        help='run those without a result of an earlier run')
    parser.add_argument('--again', metavar='REGEX',
                        help='resume, and run these tests once more')
    parser.add_argument('--missing', action='store_true',
                        help='run the classes that the docs have no whole '
                             'result of, and add theirs')
    parser.add_argument('--page', action='store_true',
                        help='run nothing; write the page anew, for example '
                             'with other reasons')
    return parser.parse_args()


def plan(folder, options, mode):
    """Write down which tests are to run, unless an earlier run did."""
    planned = folder / 'planned'
    if planned.exists():
        return
    tests = listed(folder, options.regex or TESTS)
    known = tempest_record.load().get(mode)
    if known and known.releases == releases():
        tempest_record.write({mode: known}, folder / BEFORE)
    if options.missing:
        tests = known.lacking(tests) if known else []
        if not tests:
            raise SystemExit('docs/tempest.json lacks no class of this mode, '
                             'or has nothing of it')
    planned.write_text('\n'.join(tests) + '\n')


def main():
    options = _options()
    if options.page:
        tempest_record.save(tempest_record.load())
        return 0
    ENVIRONMENT.require()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cloud = running.RunningCloud()
    if len(cloud.backends) < 2 and not options.regex:
        raise SystemExit('all tests need two backends: make sandbox '
                         "CLOUD=1 ARGS='--backend second'")
    mode = mode_of(cloud)
    folder = folder_of(mode)
    resume = options.resume or options.again
    prepare(cloud, folder,
            KEPT if resume else ())
    plan(folder, options, mode)
    run(folder, to_run(folder, options.again), options.concurrency,
        cloud.commit)
    names, found = results(folder)
    print('\n'.join(summary(found.values())))
    if not options.regex:
        record(mode, folder)
    strange = tempest_record.unexplained(found.values(), mode,
                                         tempest_record.reasons())
    for each in strange:
        print(f'not explained: {each.outcome} {each.test} {each.why}')
    return 1 if strange or len(found) < len(names) else 0


if __name__ == '__main__':
    sys.exit(main())
