# SPDX-License-Identifier: Apache-2.0
"""Bad input to every command: one line of error, and nothing changes.

The commands and their arguments are those that the command tree has: one that
is new fails here until WORDS has what a right call of it needs. What changed
is read with pyVmomi and from the database.
"""

import csv
import io
import itertools
import json
import os
from unittest import mock

import fixtures
from pyVmomi import vim
import yaml

from cinder import objects

from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.tests.contract import cli_page
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.vsphere import storage_api
from sandbox.embedded import section

# What a right call of each command needs; the braces are filled in by setUp.
WORDS = {
    'audit': (),
    'bundle': ('{new_file}', '--config-file', '{conf}', '--no-audit'),
    'cache clean': (),
    'cache list': (),
    'check': (),
    'inventory save': ('{new_file}',),
    'metrics': (),
    'migrate plan': ('LocalDS_1',),
    'migrate run': ('LocalDS_1',),
    'pool drain': ('LocalDS_1', '--reason', 'old'),
    'pool explain': (),
    'pool list': (),
    'pool show': ('LocalDS_1',),
    'pool undrain': ('LocalDS_1',),
    'quarantine list': (),
    'quarantine purge': ('vm-1',),
    'quarantine restore': ('vm-1',),
    'repair': ('{volume}',),
    'snapshot relink': ('{snapshot}', '--to', 'snapshot-1'),
    'status': (),
    'sweep': (),
    'vc cluster create': ('new',),
    'vc cluster datastores': ('DC0_C0',),
    'vc cluster delete': ('DC0_C0',),
    'vc cluster list': (),
    'vc cluster show': ('DC0_C0',),
    'vc datastore browse': ('LocalDS_0', 'free'),
    'vc datastore create local': ('new', '--host', '{host}', '--path',
                                  '{folder}'),
    'vc datastore create nfs': ('new', '--server', 'filer', '--path', '/e',
                                '--host', '{host}'),
    'vc datastore create nfs41': ('new', '--server', 'filer', '--path', '/e',
                                  '--host', '{host}'),
    'vc datastore create vmfs': ('new', '--host', '{host}', '--device',
                                 '{device}'),
    'vc datastore delete': ('LocalDS_3',),
    'vc datastore io set': ('LocalDS_0', '--enable'),
    'vc datastore io show': ('LocalDS_0',),
    'vc datastore list': (),
    'vc datastore maintenance enter': ('LocalDS_3',),
    'vc datastore maintenance exit': ('LocalDS_3',),
    'vc datastore reachable': ('LocalDS_0', 'DC0_C0'),
    'vc datastore refresh': ('LocalDS_0',),
    'vc datastore rename': ('LocalDS_3', 'new'),
    'vc datastore show': ('LocalDS_0',),
    'vc disk copy': ('{disk}', '[LocalDS_0] free/new.vmdk'),
    'vc disk create': ('[LocalDS_0] free/new.vmdk', '--size', '1GiB'),
    'vc disk delete': ('{disk}',),
    'vc disk eager-zero': ('{disk}',),
    'vc disk extend': ('{disk}', '--size', '2GiB'),
    'vc disk inflate': ('{disk}',),
    'vc disk io list': ('{instance}',),
    'vc disk io set': ('{instance}', '{instance_disk}', '--limit', '100'),
    'vc disk list': ('--datastore', 'LocalDS_0'),
    'vc disk move': ('{disk}', '[LocalDS_0] free/new.vmdk'),
    'vc host rescan': ('{host}',),
    'vc snapshot create': ('{instance}', 'new'),
    'vc snapshot delete': ('{instance}', 'point'),
    'vc snapshot export': ('{instance}', 'point', '{new_file}'),
    'vc snapshot rename': ('{instance}', 'point', 'new'),
    'vc snapshot revert': ('{instance}', 'point'),
    'vc snapshot tree': ('{instance}',),
    'volume adopt': ('{list}',),
    'volume list': (),
    'volume relink': ('{volume}', '--vm', '{instance}'),
    'volume show': ('{volume}',),
}
# Options that all commands share, or whose value argparse itself knows.
SHARED = frozenset({
    'help', 'formatter', 'columns', 'max_width', 'config_file', 'backend',
    'quote_mode', 'noindent', 'print_empty', 'sort_columns',
    'sort_direction', 'prefix', 'fit_width', 'long', 'yes', 'dry_run',
    'variables'})
# These calls are right, and refused here: nothing is in quarantine or lost,
# no pool is drained, the cluster has hosts, and so on.
REFUSED = {
    'migrate run': 2, 'quarantine purge': 2, 'quarantine restore': 2,
    'repair': 1, 'snapshot relink': 1, 'volume relink': 1,
    'vc cluster delete': 1, 'vc datastore maintenance exit': 1,
    'vc disk eager-zero': 1, 'vc snapshot revert': 1}
# What nothing has: refused before any work, in every argument.
IMPOSSIBLE = ('', '\x1b[31mred', 'x' * 5000, '\udcff')
# Arguments that take any text: a new name, a description, a place on a host.
FREE = frozenset({'reason', 'description', 'new_name', 'availability_zone',
                  'pattern', 'service_log', 'save', 'output'})
NEW = frozenset({'vc cluster create', 'vc datastore create local',
                 'vc datastore create nfs', 'vc datastore create nfs41',
                 'vc datastore create vmfs', 'vc snapshot create'})
NUMBERS = ('-2', 'many', 'nan', '1e999')
ODD = {
    'SIZE': ('-1', '0GiB', '20', '9' * 12 + 'TiB', '1e3GiB', 'GiB'),
    'GIB': ('-1', '0', 'many', '9' * 20), 'IOPS': NUMBERS, 'MS': NUMBERS,
    'DAYS': NUMBERS, 'HOURS': NUMBERS, 'SECONDS': NUMBERS,
    'PERCENT': NUMBERS, 'SHARES': ('-1', '0', 'most', '9' * 20),
    'FILE': ('{folder}/none/x', '{folder}'),
    'PATH': ('[LocalDS_0] ../x.vmdk', '[nope] a.vmdk', 'a.vmdk',
             '[LocalDS_0] ', '[LocalDS_0] free/free-flat.vmdk',
             '[LocalDS_0] free//free.vmdk', '[LocalDS_0] /free.vmdk',
             '[LocalDS_0]  free/free.vmdk', '[LocalDS_0', '[]',
             'ds:///vmfs/volumes/1/free/free.vmdk', '{volume_disk}',
             '{VOLUME_DISK}', '[LocalDS_0] fcd/x.vmdk')}
ODD['TO'] = ODD['PATH']
NAMES = ('no such', '[', '[LocalDS_0] ../x', "'; DROP TABLE volumes; --",
         '\N{SNOWMAN}', '%s%n', 'vm-1', 'LocalDS_9', '{folder_of_vms}')
# What a change calls at last, where it would change something here.
DEEDS = {
    'vc cluster create': 'CreateClusterEx',
    'vc datastore create local': 'CreateLocalDatastore',
    'vc datastore create nfs': 'CreateNasDatastore',
    'vc datastore create nfs41': 'CreateNasDatastore',
    'vc datastore create vmfs': 'CreateVmfsDatastore',
    'vc datastore delete': 'DestroyDatastore',
    'vc datastore io set': 'ConfigureDatastoreIORM_Task',
    'vc datastore maintenance enter': 'DatastoreEnterMaintenanceMode',
    'vc datastore rename': 'RenameDatastore',
    'vc disk copy': 'CopyVirtualDisk_Task',
    'vc disk create': 'CreateVirtualDisk_Task',
    'vc disk delete': 'DeleteVirtualDisk_Task',
    'vc disk extend': 'ExtendVirtualDisk_Task',
    'vc disk inflate': 'InflateVirtualDisk_Task',
    'vc disk io set': 'ReconfigVM_Task',
    'vc disk move': 'MoveVirtualDisk_Task',
    'vc host rescan': 'RescanAllHba',
    'vc snapshot create': 'CreateSnapshot_Task',
    'vc snapshot delete': 'RemoveSnapshot_Task',
    'vc snapshot rename': 'RenameSnapshot'}


class Closed:
    """A program whose backends, or whose vCenter, cannot be reached."""

    def __init__(self, error):
        self._error = error

    def __call__(self, *_words, **_more):
        return self

    def __enter__(self):
        raise self._error

    def __exit__(self, *_of):
        raise AssertionError('it was never open')


class BadInputTestCase(command_case.CommandCase):

    VCENTER = command_case.CommandCase.VCENTER | {'disk': ['20GiB']}

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.dict(os.environ, {
            'VCENTER_USERNAME': self.vcenter.user,
            'VCENTER_PASSWORD': self.vcenter.password}))
        self.datacenter = self.service.content.rootFolder.childEntity[0]
        self.folder = self.useFixture(fixtures.TempDir()).path
        self.commands = [
            (name, kind, parser) for name, kind, parser
            in cli_page.parsers(main.Application())]
        self.words = self.world()

    def world(self):
        """A volume, a snapshot, a disk without a VM; what names them."""
        volume = self.create()
        snapshot = self.snapshot(volume)
        instance = self.instances()[0]
        if instance.snapshot is None:
            self.wait(instance.CreateSnapshot_Task('point', '', False, False))
            self.service.content.fileManager.MakeDirectory(
                '[LocalDS_0] free', self.datacenter, True)
            self.wait(self.service.content.virtualDiskManager
                      .CreateVirtualDisk_Task(
                          '[LocalDS_0] free/free.vmdk', self.datacenter,
                          vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                              diskType='thin', adapterType='lsiLogic',
                              capacityKb=1 << 20)))
        for name, text in (('list', 'source_name\n[LocalDS_0] f/f.vmdk\n'),
                           ('conf', '[DEFAULT]\n')):
            with open(f'{self.folder}/{name}', 'w') as file:
                file.write(text)
        host = self.datacenter.hostFolder.childEntity[0].host[0]
        disk, = (host.configManager.datastoreSystem
                 .QueryAvailableDisksForVmfs())
        path = self.truth(volume).path
        return {
            'volume': volume.id, 'snapshot': snapshot.id,
            'instance': instance.name, 'host': host.name,
            'device': disk.canonicalName, 'folder': self.folder,
            'new_file': f'{self.folder}/new', 'list': f'{self.folder}/list',
            'conf': f'{self.folder}/conf',
            'disk': '[LocalDS_0] free/free.vmdk',
            'instance_disk': self.file_of(instance), 'volume_disk': path,
            'VOLUME_DISK': path[:12] + path[12:-5].upper() + '.vmdk',
            'folder_of_vms': self.datacenter.vmFolder._moId}

    def right(self, name):
        """The words of a right call, with its command."""
        return [*name.split(), *(each.format(**self.words)
                                 for each in WORDS[name])]

    def state(self):
        """What the commands might change."""
        datastores = self.datacenter.datastore
        vms = self.all(vim.VirtualMachine)
        return (
            sorted((each.name, each._moId, each.summary.maintenanceMode,
                    len(each.host), str(each.iormConfiguration),
                    sorted((value.key, value.value)
                           for value in each.customValue))
                   for each in datastores),
            [self.files(each) for each in datastores],
            sorted((each.name, each._moId, str(each.snapshot),
                    each.config.template, each.config.files.vmPathName,
                    [str(device.storageIOAllocation)
                     for device in each.config.hardware.device
                     if isinstance(device, vim.vm.device.VirtualDisk)])
                   for each in vms),
            sorted(each.name for each in self.datacenter.hostFolder
                   .childEntity),
            [[(each.id, each.status, each.host, each.size) for each in found]
             for found in (objects.VolumeList.get_all(self.context),)],
            [(each.id, each.status) for each
             in objects.SnapshotList.get_all(self.context, {})])

    def files(self, datastore):
        task = datastore.browser.SearchDatastoreSubFolders_Task(
            f'[{datastore.name}]', vim.host.DatastoreBrowser.SearchSpec(
                matchPattern=['*.vmdk']))
        return sorted((folder.folderPath, file.path)
                      for folder in self.wait(task) for file in folder.file)

    def assert_refused(self, words, done, statuses=(1, 2)):
        status, out, err = done
        self.assertIn(status, statuses, (words, out, err))
        self.assertRegex(err, r'\AError: [^\n]{1,6000}\n\Z', words)
        self.assertNotRegex(
            err, 'Traceback|DEBUG|Error: [\'\\w]+ object|codec|compatible',
            words)

    def arguments(self):
        """Each argument of a command whose value is free to write.

        :returns: its command and parser, the argument, and a function that
            makes the words with a value for it
        """
        for name, _kind, parser in self.commands:
            right = self.right(name)
            first = len(name.split())
            places = [each for each in parser._actions
                      if not each.option_strings]
            for action in parser._actions:
                if (action.dest in SHARED or action.nargs == 0
                        or action.choices):
                    continue
                yield name, parser, action, self.with_value(
                    right, action, first + places.index(action)
                    if action in places else None)

    @staticmethod
    def with_value(right, action, place):
        def made(value):
            if place is None:
                return [*right, f'{action.option_strings[0]}={value}']
            return [*right[:place], value, *right[place + 1:]]
        return made

    # -- The arguments --------------------------------------------------------

    def test_every_command_has_its_row(self):
        self.assertEqual(sorted(main.COMMANDS), sorted(WORDS))

    def test_what_nothing_has_is_refused_in_every_argument(self):
        before = self.state()
        for _name, parser, action, made in self.arguments():
            for value in IMPOSSIBLE:
                if not value and action.dest in ('description', 'folder'):
                    continue
                words = [*made(value), *self.confirmed(parser)]
                with backend_case.counting() as calls:
                    self.assert_refused(words, self.command(*words), (2,))
                self.assertEqual(0, calls.total(), words)
        self.assertEqual(before, self.state())

    @staticmethod
    def confirmed(parser, option='yes'):
        return [f'--{option.replace("_", "-")}'] * (
            option in {each.dest for each in parser._actions})

    def test_wrong_names_paths_and_numbers_change_nothing(self):
        before = self.state()
        for number, (name, parser, action, made) in enumerate(
                self.arguments()):
            free = action.dest in FREE or (name in NEW and action.dest in (
                'name', 'path', 'server')) or action.dest == 'file'
            known = ODD.get(
                'NAME' if name.startswith('vc datastore create')
                and action.metavar == 'PATH' else action.metavar, NAMES)
            # All of them for a command that deletes; others take turns.
            for value in known if name == 'vc disk delete' else (
                    itertools.islice(itertools.cycle(known), number,
                                     number + 2)):
                value = value.format(**self.words) if '{' in value else value
                words = [*made(value), *self.confirmed(
                    parser, 'dry_run' if free else 'yes')]
                done = self.command(*words)
                if done[0] in (0, 3) and free:
                    self.assertEqual('', done[2], words)
                    continue
                self.assert_refused(words, done)
        self.assertEqual(before, self.state())

    # -- Right calls ----------------------------------------------------------

    def test_every_format_is_valid_and_has_machine_units(self):
        for name, kind, parser in self.commands:
            words = [*self.right(name), *self.confirmed(parser, 'dry_run')]
            done = self.command(*words)
            if name in REFUSED:
                self.assert_refused(words, done, (REFUSED[name],))
                continue
            self.assertIn((done[0], done[2]), ((0, ''), (3, '')), done)
            if os.path.exists(f'{self.folder}/new'):
                os.unlink(f'{self.folder}/new')
            columns = getattr(kind, 'COLUMNS', None)
            if columns:
                self.assert_formats(kind, columns, words)

    def assert_formats(self, kind, columns, words):
        """Of one answer, so that the work is done only once."""
        keys = [each.key for each in columns]
        method = 'rows' if hasattr(kind, 'rows') else 'row'
        work = getattr(kind, method)
        saved = []

        def once(command, parsed_args):
            if not saved:
                saved.append(work(command, parsed_args))
            return saved[0]

        with mock.patch.object(kind, method, once):
            found = {form: self.command(*words, '--format', form)[1]
                     for form in ('json', 'yaml', 'csv', 'value', 'table')
                     if form != 'csv' or method == 'rows'}
        told = json.loads(found['json'])
        self.assertEqual(told, yaml.safe_load(found['yaml']), words)
        for each in told if method == 'rows' else [told]:
            self.assertEqual(keys, list(each), words)
            for key, value in each.items():
                if key.endswith(('_bytes', '_seconds', '_iops')):
                    self.assertIsInstance(value, (int, float, type(None)))
        if method == 'rows':
            read = list(csv.DictReader(io.StringIO(found['csv'])))
            self.assertEqual(len(told), len(read), words)
            self.assertTrue(all(list(each) == keys for each in read), words)
        self.assertIn('--+--' if told else '', found['table'])

    # -- The vCenter ----------------------------------------------------------

    def failures(self):
        """How a vCenter fails that is down, strange or knows no such user.

        The errors are those of a driver and of a login that meet it.
        """
        for options, login in (
                ({'vmware_host_port': 1}, {'port': 1}),
                # Not the account of other tests, which would have to wait.
                ({'vmware_host_username': 'other'}, {'user': 'other'}),
                ({'vmware_ca_file': None}, {'ca_file': None})):
            yield self.failure(lambda: self.make_driver(
                **options | {'vmware_api_retry_count': 0})), self.failure(
                    lambda: storage_api.connect(**{
                        'host': self.vcenter.host, 'port': self.vcenter.port,
                        'user': self.vcenter.user,
                        'ca_file': self.vcenter.cacert,
                        'password': self.vcenter.password} | login)
                    .__enter__())
        section.read(**section.of_vcenter(self.vcenter, **self.OPTIONS))

    def failure(self, begin):
        try:
            begin()
        except Exception as error:
            return error
        self.fail('it could be used')

    def test_no_command_hides_that_the_vcenter_cannot_be_used(self):
        for of_driver, of_login in self.failures():
            for name, words, done in self.closed(of_driver, of_login):
                if name in ('bundle', 'check'):
                    # Their rows name the reason.
                    self.assertEqual((3, ''), (done[0], done[2]))
                    self.assertRegex(done[1], 'vcenter|vCenter|reached')
                    if name == 'bundle':
                        os.unlink(f'{self.folder}/new')
                    continue
                self.assert_refused(words, done, (1,))

    def test_an_interrupt_ends_every_command_with_one_line(self):
        for _name, words, done in self.closed(KeyboardInterrupt(),
                                              KeyboardInterrupt()):
            self.assert_refused(words, done, (1,))
            self.assertIn('interrupted', done[2])
            # So that it can be repeated.
            self.assertFalse(os.path.exists(f'{self.folder}/new'))

    def closed(self, of_driver, of_login):
        """Every command that uses the vCenter, where that fails."""
        with mock.patch.object(command_case.Backends, 'opened',
                               Closed(of_driver)), \
                mock.patch.object(storage_api, 'connect', Closed(of_login)):
            for name, _kind, parser in self.commands:
                if name == 'status':
                    continue  # asks the service, not the vCenter
                words = [*self.right(name), *self.confirmed(parser)]
                yield name, words, self.command(*words)

    def test_what_vanished_before_the_change_is_an_error(self):
        changing = {
            name for name, _kind, parser in self.commands
            if name.startswith('vc ') and self.confirmed(parser)}
        self.assertEqual(changing - set(REFUSED), set(DEEDS))
        before = self.state()
        for name, method in DEEDS.items():
            self.control.fault(method=method, count=1, fault={
                'type': 'ManagedObjectNotFound'})
            words = [*self.right(name), '--yes']
            self.assert_refused(words, self.command(*words), (1,))
            self.control.reset_faults()
        self.assertEqual(before, self.state())

    def test_questions_without_an_answer_change_nothing(self):
        before = self.state()
        for name, _kind, parser in self.commands:
            if self.confirmed(parser) and name not in REFUSED and (
                    name not in ('cache clean', 'sweep', 'pool undrain',
                                 'volume adopt')):
                status, _out, err = self.command(*self.right(name))
                self.assertEqual((1, 1), (status, err.count('[y/N]')), name)
                self.assertIn('Error: the question got no answer; --yes', err)
        self.assertEqual(before, self.state())
