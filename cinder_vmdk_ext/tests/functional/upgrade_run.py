# SPDX-License-Identifier: Apache-2.0
"""Runs this version on volumes of an earlier one, and the earlier again.

    make upgrade-run

The earlier version is a commit of this project; services run its code in
separate processes. The objects are compared with pyVmomi and in the database,
without code of either version.
"""

import io
import pathlib
import re
import sqlite3
import subprocess
import tarfile
import tempfile
import time
import unittest
from typing import Any

from oslo_config import cfg
from pyVmomi import vim

from cinder import objects

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests import clustered
from cinder_vmdk_ext.tests.functional import backend_case
from sandbox.embedded import database
from sandbox.embedded import section
from tools import structure

# The last one whose modules lay in one folder.
EARLIER = 'e35ea9e30b6d941889a463ca19d38b69e9084831'
PROGRAM = (str(pathlib.Path(__file__).with_name('version_service.py')),)
TABLES = ('volumes', 'snapshots', 'volume_attachment', 'volume_metadata',
          'volume_admin_metadata', 'volume_glance_metadata',
          'snapshot_metadata')
_RULE = re.compile(r'^\| `([a-z-]+)` \|', re.MULTILINE)


def unpack(commit: str, folder: str) -> None:
    """Write the plugin of a commit into a folder.

    :raises SkipTest: the commit is not in this clone
    """
    try:
        packed = subprocess.run(
            ['git', 'archive', commit, structure.PACKAGE], check=True,
            cwd=structure.ROOT, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise unittest.SkipTest(
            f'no commit {commit[:7]} here, this needs the history of the '
            f'project: {error}') from None
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter='data')


def all_rules() -> list[str]:
    """The rules of the simulator that came after the earlier version."""
    text = (structure.ROOT / 'simulator' / 'README.md').read_text('utf-8')
    return _RULE.findall(text.partition('## Rules')[2].partition('## ')[0])


class Through:
    """A driver as BackendCase.attach() asks one, by a service."""

    def __init__(self, service: clustered.Process) -> None:
        self._service = service

    def create_export(self, context: Any, volume: Any,
                      connector: Any) -> None:
        """Nothing, as the driver does."""

    def initialize_connection(self, volume: Any, connector: Any) -> None:
        self._service.ask('attach', volume=volume.id, connector=connector)


class UpgradeTestCase(backend_case.BackendCase):
    """One cloud; services of both versions as a test wants them."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix='earlier-')
        cls.addClassCleanup(folder.cleanup)
        unpack(EARLIER, folder.name)
        cls.trees = {'earlier': folder.name, 'this': str(structure.ROOT)}
        cls.VCENTER = cls.VCENTER | {'lenient': all_rules()}
        super().setUpClass()

    @classmethod
    def set_up_driver(cls, **options):
        """Services have the only drivers here."""

    def _refresh_figures(self):
        """The vCenter's figures; each service asks for its own."""
        for datastore in self.all(vim.Datastore):
            datastore.RefreshDatastoreStorageInfo()

    def setUp(self):
        super().setUp()
        self.path = str(database.api.main_context_manager.writer
                        .get_engine().url.database)

    def started(self, version, number=1, **options):
        """Start a service of a version; its volumes are known to it."""
        tree = self.trees[version]
        made = clustered.Process(number, section.of_vcenter(
            self.vcenter, **options), cfg.CONF.coordination.backend_url,
            PROGRAM, tree)
        self.addCleanup(made.kill)
        made.ask('database', path=self.path)
        self.assertEqual(tree, made.ask('version'))
        made.ask('start')
        return made

    def volume(self, pool='LocalDS_1', **fields):
        return self.new_volume(
            pool, cluster_name=f'{clustered.CLUSTER}#{pool}', **fields)

    def serve(self, service, attached, connector):
        """What a service does with volumes that stay unchanged."""
        for _ in range(2):
            self.assertEqual('up', service.ask('report'))
        service.ask('attach', volume=attached.id, connector=connector)
        service.ask('start')

    def make(self, service, snapshots, plain):
        """A volume of each kind, with snapshots, by a service.

        :param snapshots: a service with snapshots in VMs' trees
        :param plain: a service that makes disks at once
        """
        made = {name: self.volume('LocalDS_2') for name in (
            'lazy', 'plain', 'attached', 'with snapshot', 'with template')}
        for name, volume in made.items():
            (service if name == 'lazy' else plain).ask(
                'create', volume=volume.id)
            if name != 'lazy':
                self.write(volume, backend_case.content(name))
        for name, maker in (('with snapshot', snapshots),
                            ('with template', plain)):
            maker.ask('snapshot', snapshot=self.database.snapshot(
                self.fresh(made[name])).id)
        linked = self.database.volume_type('linked', clone_type='linked').id
        made['linked'] = self.volume('LocalDS_2', type_id=linked)
        snapshot, = objects.SnapshotList.get_all_for_volume(
            self.context, made['with snapshot'].id)
        snapshots.ask('from_snapshot', volume=made['linked'].id,
                      snapshot=snapshot.id)
        self.driver = Through(plain)
        made['attached'] = self.fresh(made['attached'])
        self.attach(made['attached'])
        return made

    # -- What there is ------------------------------------------------------

    def cloud(self):
        """All that the database and the vCenter say, by names."""
        connection = sqlite3.connect(self.path)
        try:
            found = {table: sorted(map(str, connection.execute(
                f'SELECT * FROM {table}'))) for table in TABLES}
        finally:
            connection.close()
        for vm in self.all(vim.VirtualMachine):
            found[f'VM {vm.name}'] = self.described(vm)
        for datastore in self.all(vim.Datastore):
            found[f'files of {datastore.name}'] = self.files(datastore)
        found['folders'] = sorted(each.name for each in self.all(vim.Folder))
        return found

    def described(self, vm):
        config = vm.config
        return {
            'instance UUID': config.instanceUuid, 'template': config.template,
            'changes': config.changeVersion, 'folder': vm.parent.name,
            'extra configuration': sorted(
                (each.key, each.value) for each in config.extraConfig),
            'manager': config.managedBy and config.managedBy.extensionKey,
            'snapshots': [each.name for each in vm.snapshot.rootSnapshotList]
            if vm.snapshot else [],
            'disks': [(disk.backing.fileName, disk.backing.uuid,
                       disk.capacityInBytes,
                       self.checksum_of(disk.backing.fileName))
                      for disk in config.hardware.device
                      if isinstance(disk, vim.vm.device.VirtualDisk)]}

    def files(self, datastore):
        found = self.wait(datastore.browser.SearchDatastoreSubFolders_Task(
            f'[{datastore.name}]', vim.host.DatastoreBrowser.SearchSpec(
                details=vim.host.DatastoreBrowser.FileInfo.Details(
                    fileSize=True, fileType=False, fileOwner=False,
                    modification=False))))
        return sorted((folder.folderPath, each.path, each.fileSize)
                      for folder in found for each in folder.file)

    def assert_same(self, before):
        """Nothing is there that was not, and nothing is gone or changed."""
        now = self.cloud()
        self.assertEqual(sorted(before), sorted(now))
        for name, was in before.items():
            self.assertEqual(was, now[name], name)

    # -- Tests ---------------------------------------------------------------

    def made_by_earlier(self):
        """Volumes by the earlier version, and the connector of one."""
        lazy = self.started('earlier', vmware_lazy_create=True)
        trees = self.started('earlier', vmware_snapshot_format='COW')
        plain = self.started('earlier', vmware_snapshot_format='template')
        made = self.make(lazy, trees, plain)
        for each in lazy, trees, plain:
            each.kill()
        return made, {'instance': self.instances()[0]._moId,
                      'ip': '127.0.0.1', 'host': 'compute'}

    def test_volumes_are_the_same_under_this_version_and_back(self):
        made, connector = self.made_by_earlier()
        before = self.cloud()
        for version in ('this', 'earlier', 'this'):
            service = self.started(version)
            self.serve(service, made['attached'], connector)
            service.kill()
            self.assert_same(before)

    def test_each_version_works_with_what_the_other_made(self):
        nothing = sorted(self.shadow_vms())
        made, connector = self.made_by_earlier()
        this = self.started('this', vmware_snapshot_format='template')
        this.ask('attach', volume=made['lazy'].id, connector=connector)
        copies = [self.volume('LocalDS_1') for _ in range(3)]
        for copy, source in zip(copies, ('plain', 'linked', 'with template')):
            this.ask('clone', volume=copy.id, source=made[source].id)
            self.assertEqual(self.checksum(made[source]), self.checksum(copy))
        this.ask('snapshot', snapshot=self.database.snapshot(
            self.fresh(copies[0])).id)
        this.kill()

        earlier = self.started('earlier', number=2)
        self.detach(made['attached'], self.instances()[0])
        for snapshot in objects.SnapshotList.get_all(self.context, {}):
            if snapshot.volume_id != made['with snapshot'].id:
                earlier.ask('delete_snapshot', snapshot=snapshot.id)
        for volume in [*copies, *made.values()]:
            if volume.id != made['with snapshot'].id:
                earlier.ask('delete', volume=volume.id)
        this = self.started('this')
        for snapshot in objects.SnapshotList.get_all(self.context, {}):
            this.ask('delete_snapshot', snapshot=snapshot.id)
        this.ask('delete', volume=made['with snapshot'].id)
        self.assertEqual(nothing, sorted(self.shadow_vms()))

    def wait_for(self, rule):
        for _ in range(1000):
            if any(each['id'] == rule['id'] and each['hits']
                   for each in self.control.faults()):
                return
            time.sleep(0.02)
        self.fail('the method was not called')

    def test_services_that_are_upgraded_one_by_one_share_their_locks(self):
        """Of two first attachments one makes the disk, whatever versions."""
        for versions in (('earlier', 'this'), ('this', 'earlier')):
            services = [self.started(version, number) for number, version
                        in enumerate(versions, start=1)]
            volume = self.volume(status='available',
                                 provider_id=state.PROMISED)
            self.control.reset_journal()
            rule = self.control.fault(method='CreateVM_Task', count=1,
                                      task_hang=True)
            for service in services:
                service.begin('attach', volume=volume.id, connector={
                    'instance': self.instances()[0]._moId,
                    'ip': '127.0.0.1', 'host': 'compute'})
            self.wait_for(rule)
            self.control.release(rule)
            found = {service.end() for service in services}
            self.assertEqual({self.truth(volume).vm._moId}, found)
            self.assertEqual(1, self.control.journal()['methods'][
                'CreateVM_Task']['calls'])
            for service in services:
                service.kill()


if __name__ == '__main__':
    unittest.main()
