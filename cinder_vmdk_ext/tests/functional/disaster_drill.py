# SPDX-License-Identifier: Apache-2.0
"""Damages volumes in many ways; the commands name and mend each.

``make disaster-drill`` writes docs/disaster-drill.md.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import time
import traceback
import unittest
from typing import NamedTuple
from unittest import mock

from oslo_config import cfg
from oslo_utils import timeutils
from pyVmomi import vim

from cinder.db import api as db
from cinder import objects

from cinder_vmdk_ext.cmd import caching
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import damage_case
from cinder_vmdk_ext.tests.functional import disaster_damages
from sandbox.embedded import section
from simulator import observer

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / 'docs' / 'disaster-drill.md'
RECORDS = ROOT / 'build' / 'disaster-drill'
DAMAGES = disaster_damages.DAMAGES
INTERNAL = 'internal'

HEAD = '''\
# The disaster drill

Each line is damage that somebody else does to a volume: by hand in the
vCenter (the drill makes it with pyVmomi), on a datastore, or in Cinder's
database. `cinder-vmdk-ext audit` has to name it, with the remedy; a sweep of
everything, made before, may not take anything that a volume needs; and the
commands have to mend it, or to clear what is gone for good. Then the audit
finds nothing about it, and the content of the disk, read through the
simulated vCenter and not by our code, is what it was.

`make disaster-drill` runs all and writes this page; `make test` runs those
marked with *.

| damage | what the audit says | the commands that mend it | content |
|---|---|---|---|
'''


class Outcome(NamedTuple):
    """What came of one kind of damage."""

    name: str
    says: str
    commands: str
    content: str
    wrong: str = ''


class DrillCase(damage_case.ApiCase, damage_case.DamageCase):
    """Damages, and runs the commands."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}
    VCENTER = damage_case.DamageCase.VCENTER | {
        'policy': ['gold=LocalDS_1,LocalDS_2']}

    def setUp(self):
        super().setUp()
        self.datacenter = self.service.content.rootFolder.childEntity[0]
        self.addCleanup(self._tidy)
        cfg.CONF.set_override('cinder_internal_tenant_project_id', INTERNAL)
        self.addCleanup(cfg.CONF.clear_override,
                        'cinder_internal_tenant_project_id')
        patched = mock.patch.object(caching, 'POLL_SECONDS', 0)
        patched.start()
        self.addCleanup(patched.stop)

    # -- For the damages ----------------------------------------------------

    @contextlib.contextmanager
    def option_of_backend(self, name, value):
        cfg.CONF.set_override(name, value, section.NAME)
        try:
            yield
        finally:
            cfg.CONF.clear_override(name, section.NAME)

    def format(self, form):
        """Take snapshots in this format in the block."""
        return self.option_of_backend('vmware_snapshot_format', form)

    def lazily(self):
        """Make no disk with a volume in the block."""
        return self.option_of_backend('vmware_lazy_create', True)

    def reconfigure_size(self, volume, size_gib):
        """The VM's own device follows its extended file."""
        truth = self.truth(volume)
        if truth.size_gib != size_gib:
            truth.disk.capacityInKB = size_gib << 20
            truth.disk.capacityInBytes = size_gib << 30
            self.reconfigure(truth.vm, deviceChange=[
                vim.vm.device.VirtualDeviceSpec(operation='edit',
                                                device=truth.disk)])

    def policies_of(self, truth):
        return observer.policies_of_disk(observer.policy_service(
            self.vcenter, self.service), truth.vm, truth.disk)

    def register_service(self):
        """A cinder-volume of this backend, as Cinder knows it."""
        objects.Service(self.context, host=backend_case.HOST,
                        binary='cinder-volume', topic='cinder-volume',
                        report_count=0).create()

    @contextlib.contextmanager
    def database_moved(self, volume, age):
        """The record looks as if it was changed so long ago."""
        with db.main_context_manager.writer.using(self.context) as session:
            session.query(db.models.Volume).filter_by(id=volume.id).update(
                {'updated_at': timeutils.utcnow() - age})
        yield

    def cached_image(self, image):
        volume = self.new_volume(display_name=f'image-{image}',
                                 project_id=INTERNAL)
        self.made(volume, self.driver.create_volume(volume))
        db.image_volume_cache_create(
            self.context, volume.host, None, image, timeutils.utcnow(),
            volume.id, 1)
        return volume

    def maintain(self, name):
        """Ask a datastore into maintenance mode, which waits for its VMs."""
        datastore = self.datastore(name)
        datastore.DatastoreEnterMaintenanceMode()
        self.addCleanup(self._leave_maintenance, datastore)
        self.catch_up()

    def _leave_maintenance(self, datastore):
        # It begins when the last VM has left.
        self._remove_shadow_vms()
        for vm in self.instances():
            assert f'[{datastore.name}]' not in vm.config.files.vmPathName
        deadline = time.monotonic() + 60
        while datastore.summary.maintenanceMode != 'inMaintenance':
            assert time.monotonic() < deadline, 'it is not in maintenance'
            time.sleep(0.1)
        self.wait(datastore.DatastoreExitMaintenanceMode_Task())
        self.catch_up()

    def cut_off(self, name):
        """No host reaches a datastore any more.

        :returns: makes it accessible again
        """
        def mount(accessible):
            self.control.call('POST', '/mounts', {
                'datastore': name, 'accessible': accessible})
            self.catch_up()

        self.addCleanup(mount, True)
        mount(False)
        return lambda: mount(True)

    def remove_folder(self, folder):
        with contextlib.suppress(Exception):
            self.wait(folder.Destroy_Task())

    def remove_path(self, path):
        with contextlib.suppress(Exception):
            self._delete_path(path)

    def _tidy(self):
        """Remove files that are left of volumes."""
        self._remove_shadow_vms()
        spec = vim.host.DatastoreBrowser.SearchSpec(matchPattern=['*'])
        for name, datastore in self.named(vim.Datastore):
            found = self.wait(datastore.browser.SearchDatastore_Task(
                f'[{name}]', spec))
            for each in found.file:
                if not each.path.startswith('DC0_'):
                    self.remove_path(f'[{name}] {each.path}')

    # -- One kind of damage -------------------------------------------------

    def drill(self, name):
        """Damage, look, sweep, mend, look again.

        :returns: the outcome; it says what is wrong
        """
        hurt, says, shown = None, '', ''
        try:
            hurt = DAMAGES[name].make(self)
            self.catch_up()
            says = self._named(hurt)
            shown = self._shown(hurt)
            self._sweep_all(hurt)
            for words in hurt.commands:
                self._run(hurt, words)
            hurt.check()
            self.catch_up()
            self._check_after(hurt)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            if os.environ.get('DRILL_DEBUG'):
                traceback.print_exc()
            return Outcome(name, says, shown, '', (
                f'{type(error).__name__}: {error} ({last.name})')[:700])
        return Outcome(name, says, shown,
                       'intact' if hurt.content or hurt.swept
                       else 'was gone' if hurt.kind in (
                           'lost', 'stuck', 'quarantined') else 'none yet')

    def _findings(self, hurt):
        """What the audit says about it."""
        status, out, err = self.command('audit', '--format', 'json')
        assert status in (0, 3, 4) and not err, err
        return [each for each in json.loads(out)
                if hurt.owner in (each['owner'], each['reference'])]

    def _named(self, hurt):
        found = [each for each in self._findings(hurt)
                 if each['kind'] == hurt.kind
                 and hurt.says in each['detail']]
        assert found, (f'the audit does not say {hurt.kind}: {hurt.says!r}, '
                       f'but {self._findings(hurt)}')
        assert found[0]['remedy'], 'it has no remedy'
        return f'{hurt.kind}: {found[0]["detail"]}'

    def _shown(self, hurt):
        return '; '.join(dict.fromkeys(
            ' '.join(f'"{word}"' if ' ' in word else word for word in words)
            for words in hurt.commands))

    def _sweep_all(self, hurt):
        """A sweep takes nothing that a damaged volume needs."""
        if hurt.swept:
            return
        moved = self.listed('sweep', '--act', '--yes', '--minimum-age', '0')
        assert not moved, f'a sweep moved {moved}'

    def _run(self, hurt, words):
        needed = ('--yes',) if words[0] != 'audit' else ()
        status, out, err = self.command(*words, *needed, '--format', 'json')
        assert status == hurt.status and not err, (
            f'{" ".join(words)}: {status} {out} {err}')

    def _check_after(self, hurt):
        left = [each for each in self._findings(hurt)
                if each['kind'] not in hurt.remains]
        assert not left, f'the audit still finds {left}'
        for volume_id, beginning in hurt.content.items():
            volume = self.volume_of(volume_id)
            assert beginning == self.read(volume, len(beginning)), (
                'other content')
            # It can be used: a copy has the same content.
            if volume.status == 'available':
                copy = self.new_volume(volume.host.partition('#')[2],
                                       size_gib=volume.size)
                self.made(copy, self.driver.create_cloned_volume(copy,
                                                                 volume))
                assert beginning == self.read(copy, len(beginning)), (
                    'a copy has other content')


def page(outcomes: dict[str, Outcome]) -> str:
    """The text of docs/disaster-drill.md."""
    text = HEAD
    for name, damage in DAMAGES.items():
        title = damage.title + ('*' if damage.quick else '')
        found = outcomes.get(name)
        if found is None:
            text += f'| {title} | not run | | |\n'
            continue
        text += (f'| {title} | {anonymous(found.says)} | '
                 f'`{anonymous(found.commands)}` | '
                 f'{"**wrong**" if found.wrong else found.content} |\n')
    wrong = [each for each in outcomes.values() if each.wrong]
    text += (f'\n{len(outcomes)} kinds of damage, {len(wrong)} not mended.\n')
    if wrong:
        text += '\n## Not mended\n\n' + ''.join(
            f'- {DAMAGES[each.name].title}: {anonymous(each.wrong)}\n'
            for each in wrong)
    return text


def anonymous(text: str) -> str:
    """The text without the parts that differ between runs."""
    text = re.sub('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}',
                  'ID', text)
    text = re.sub(r'\b(vm|snapshot|datastore)-\d+\b', r'\1-1', text)
    return re.sub(r'\s+', ' ', text).replace('|', '\\|')


class _Run(DrillCase):
    """Runs one kind of damage, and keeps the outcome."""

    wanted = ''

    def test_one(self):
        RECORDS.mkdir(parents=True, exist_ok=True)
        outcome = self.drill(self.wanted)
        print(f'{self.wanted}: {outcome.wrong or "mended"}', file=sys.stderr,
              flush=True)
        (RECORDS / f'{self.wanted}.json').write_text(json.dumps(outcome))


def load_tests(loader, tests, pattern):
    """This module has no tests of its own."""
    return unittest.TestSuite()


def main(wanted: list[str]) -> int:
    """Run the named kinds, or all; then write the page of all runs."""
    if not wanted:
        shutil.rmtree(RECORDS, ignore_errors=True)
    tests = []
    for name in wanted or DAMAGES:
        tests.append(_Run('test_one'))
        tests[-1].wanted = name
    result = unittest.TextTestRunner().run(unittest.TestSuite(tests))
    outcomes = {each.name: each for each in (
        Outcome(*json.loads(path.read_text()))
        for path in RECORDS.glob('*.json'))}
    PAGE.write_text(page(outcomes))
    wrong = sum(bool(each.wrong) for each in outcomes.values())
    print(f'{len(outcomes)} kinds of damage, {wrong} wrong: {PAGE}')
    return int(bool(wrong) or not result.wasSuccessful())


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
