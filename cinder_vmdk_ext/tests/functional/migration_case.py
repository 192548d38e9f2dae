# SPDX-License-Identifier: Apache-2.0
"""Two backends of two vCenters, and Cinder's volume manager for each.

As in :mod:`backup_case`, only the message bus between the two is left out: a
call of one is a call of the other's method. Cinder copies with dd.
"""

import contextlib
import copy
import pathlib
import threading
import types
from typing import Any
from unittest import mock

import os_brick.privileged
from oslo_config import cfg

from cinder import objects
from cinder import utils
from cinder.volume import rpcapi as volume_rpcapi

from cinder_vmdk_ext import driver
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import backup_case
from sandbox.embedded import section

FIRST, SECOND = backup_case.FIRST, backup_case.SECOND
LATER = backup_case.LATER
FAR = 'far'
HOST = backend_case.HOST
FAR_HOST = f'cinder-1@{FAR}'


class _OfTwo(backend_case.BackendCase):
    """A backend beside another one, in the same configuration."""

    VCENTER = backend_case.BackendCase.VCENTER | {'ds': 2, 'host': 1}
    #: The vCenters by the names of their backends, as far as they run.
    vcenters: dict[str, Any] = {}
    NAME = section.NAME
    HOST = backend_case.HOST

    @classmethod
    def set_up_driver(cls, **options):
        cls.vcenters[cls.NAME] = cls.vcenter
        made = driver.VmdkExtDriver(
            configuration=cls.read_options(**options)[cls.NAME],
            host=cls.HOST)
        made.do_setup(backend_case.cinder_context.get_admin_context())
        cls.addClassCleanup(made.backend.end_session)
        return made

    @classmethod
    def read_options(cls, **options):
        """The sections of all backends; options of this one."""
        return section.read_all({
            name: section.of_vcenter(vcenter, volume_backend_name=name)
            | (options if name == cls.NAME else {})
            for name, vcenter in cls.vcenters.items()})


class Side(_OfTwo):
    """The other vCenter, seen as a test sees its own."""

    NAME = FAR
    HOST = FAR_HOST


class VolumeService(backup_case.VolumeService):
    """Cinder's volume manager of a backend."""

    def _get_service(self, host=None, binary=None):
        return types.SimpleNamespace(availability_zone='nova', uuid=None)


class Calls:
    """cinder.volume.rpcapi.VolumeAPI, whose calls are calls of a method."""

    def __init__(self, services):
        """:param services: the managers by the hosts of their backends"""
        self.services = services
        #: Each call that was made, and each answer of a connection.
        self.made, self.infos = [], []
        #: Called with the name of each call before it is made.
        self.meanwhile = lambda name: None
        #: What each driver reports of its place, by its host.
        self.locations = dict.fromkeys(services, 'VmdkExtDriver:somewhere')
        #: Errors of messages without a reply.
        self.lost = (Exception,)

    def before(self, name, act):
        """Do something once, before a call of this name is made."""
        left = [act]

        def look(made):
            if made == name and left:
                left.pop()()
        self.meanwhile = look

    def _service(self, volume, name):
        self.made.append(name)
        self.meanwhile(name)
        return self.services[volume.host.partition('#')[0]]

    def create_volume(self, context, volume, *_spec, **_more):
        service = self._service(volume, 'create_volume')
        with contextlib.suppress(*self.lost):
            volume.update(service.driver.create_volume(volume) or {})
            volume.status = 'available'
            volume.save()
            return
        volume.status = 'error'
        volume.save()

    def initialize_connection(self, context, volume, connector):
        service = self._service(volume, 'initialize_connection')
        info = service.initialize_connection(
            context, self._received(volume), connector)
        self.infos.append(info)
        return info

    def terminate_connection(self, context, volume, connector, force=False):
        self._service(volume, 'terminate_connection').terminate_connection(
            context, volume.id, connector, force=force)

    def remove_export(self, context, volume, sync=False):
        """The driver exports nothing."""

    def get_capabilities(self, context, host, discover):
        """What matters of the capabilities of a driver."""
        return {'sparse_copy_volume': True, 'location_info':
                self.locations[host.partition('#')[0]]}

    def update_migrated_volume(self, context, volume, new_volume, status):
        self._service(new_volume, 'update_migrated_volume'
                      ).update_migrated_volume(
            context, self._received(volume), self._received(new_volume),
            status)

    def migrate_volume_completion(self, context, volume, new_volume, error):
        self._service(volume, 'migrate_volume_completion'
                      ).migrate_volume_completion(context, volume, new_volume,
                                                  error)

    def delete_volume(self, context, volume):
        # A message without a reply: the caller does not learn how it ends.
        service = self._service(volume, 'delete_volume')
        found = self._received(volume)
        try:
            service.driver.delete_volume(found)
        except Exception:
            found.status = 'error_deleting'
            found.save()
        except self.lost:
            pass  # the service was killed
        else:
            found.destroy()

    @staticmethod
    def _received(volume):
        """A copy, as a message carries one."""
        return copy.deepcopy(volume)


class MigrationCase(_OfTwo):
    """The two backends, with a folder for files on one host."""

    #: The simulator of the other vCenter.
    FAR_VCENTER = _OfTwo.VCENTER

    @classmethod
    def setUpClass(cls):
        cls.vcenters = {}
        super().setUpClass()
        cls.FarSide = type('FarSide', (Side,), {
            'vcenters': cls.vcenters, 'VCENTER': cls.FAR_VCENTER})
        cls.addClassCleanup(cls.FarSide.doClassCleanups)
        cls.FarSide.setUpClass()

    def setUp(self):
        super().setUp()
        self.read_options()
        # The next test has other records than what they complete.
        self.addCleanup(self.join_threads, 'vmdk-ext-migration')
        self.far = self.FarSide('checksum')
        self.far.driver = self.far.shared_driver
        self.far.context = self.context
        self.far.database = self.database
        self.addCleanup(self.far._remove_shadow_vms)
        self.addCleanup(self.far.control.reset_faults)
        self.folder = pathlib.Path(self.enterContext(
            backend_case.tempfile.TemporaryDirectory(
                prefix='vmdk-ext-migration-'))) / 'files'
        for each in self, self.far:
            self.set_options(each, vmdk_ext_backup_dir=str(self.folder))
            each.service_of_volumes = VolumeService(each.driver)
        self.calls = Calls({HOST: self.service_of_volumes,
                            FAR_HOST: self.far.service_of_volumes})
        os_brick.privileged.default.set_client_mode(False)
        for module, name, value in (
                (backup_case.volume_manager.volume_utils,
                 'require_driver_initialized', mock.DEFAULT),
                (backup_case.volume_manager.volume_utils,
                 'brick_get_connector_properties',
                 lambda *args, **kwargs: {
                     'platform': 'x86_64', 'os_type': 'linux',
                     'ip': '127.0.0.1', 'multipath': False,
                     'host': backup_case.socket.gethostname()}),
                (utils, 'get_root_helper', lambda: 'env'),
                (volume_rpcapi, 'VolumeAPI', lambda: self.calls)):
            self.enterContext(mock.patch.object(module, name, value))

    def set_options(self, side, **options):
        """Options of a side's section."""
        group = side.driver.configuration.config_group
        for name, value in options.items():
            cfg.CONF.set_override(name, value, group)
            self.addCleanup(cfg.CONF.clear_override, name, group)

    # -- What a user does ---------------------------------------------------

    @staticmethod
    def elsewhere(act, *args):
        """Another thread does something, and this one waits for it."""
        caught = []

        def run():
            try:
                act(*args)
            except Exception as error:
                caught.append(error)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return caught[0] if caught else None

    def filled(self, **how):
        """A volume that holds something at its beginning and later."""
        volume = self.create(content=FIRST, **how)
        self.write(volume, SECOND, LATER)
        return volume

    def migrate(self, volume, **how):
        """Migrate a volume to the other vCenter, as the scheduler asks it."""
        self.begin(volume)
        self.service_of_volumes.migrate_volume(
            self.context, volume, {
                'host': f'{FAR_HOST}#LocalDS_1', 'capabilities': {
                    'location_info': self.far.driver.backend
                    .location_info()}}, **how)
        return self.fresh(volume)

    def begin(self, volume):
        """What cinder-api writes."""
        volume.migration_status = 'starting'
        if volume.status != 'retyping':
            volume.previous_status = volume.status
        volume.save()

    def assert_stays(self, volume, words):
        """A migration fails for a reason, and changes nothing."""
        before = self.checksum(volume)
        try:
            self.migrate(volume)
        except Exception as error:
            self.assertIn(words, str(error))
        else:
            self.fail('it was migrated')
        self.far.control.reset_faults()
        found = self.fresh(volume)
        self.assertEqual('error', found.migration_status)
        self.assert_only(found, self)
        self.assertEqual(before, self.checksum(found))

    def restart(self, side):
        """Act as a new process of a backend's service."""
        side.driver = side.make_driver()
        side.service_of_volumes.driver = side.driver
        side.driver.backend.broken_off.resume()

    # -- What there is ------------------------------------------------------

    def sweep(self):
        """Do what the services do from time to time."""
        for side in self, self.far:
            side.driver.backend.broken_off.sweep()

    def files(self):
        """The files and notes of migrations that are there."""
        self.sweep()
        return sorted(each.name for each in self.folder.glob('**/*')
                      if each.is_file())

    def assert_only(self, volume, side):
        """There is one volume, on one side, at rest, and nothing else."""
        self.assertEqual([volume.id], [each.id for each in (
            objects.VolumeList.get_all(self.context))])
        found = self.fresh(volume)
        host = HOST if side is self else FAR_HOST
        self.assertEqual(
            (host, 'available', None),
            (found.host.partition('#')[0], found.status, found._name_id))
        self.assertEqual([volume.name], list(side.shadow_vms()))
        other = self.far if side is self else self
        self.assertEqual({}, other.shadow_vms())
        truth = side.truth(volume)
        self.assertEqual((volume.id, volume.size),
                         (truth.disk.backing.uuid, truth.size_gib))
        self.assertEqual([], self.files())
        return truth
