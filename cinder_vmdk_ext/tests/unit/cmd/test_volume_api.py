# SPDX-License-Identifier: Apache-2.0
"""The command reports an error of Cinder's API in one sentence."""

import os
import types
import unittest
from unittest import mock

from cinder_vmdk_ext.cmd import volume_api
from cinder_vmdk_ext import exceptions


class VolumeApiTestCase(unittest.TestCase):

    def test_what_the_api_refuses_is_one_error(self):
        def refuse(*arguments, **fields):
            raise OSError('no quota\nand more')
        api = volume_api.VolumeApi(types.SimpleNamespace(
            block_storage=types.SimpleNamespace(
                manage_volume=refuse, get_volume=refuse,
                delete_volume=refuse, unmanage_volume=refuse,
                reset_volume_status=refuse, extend_volume=refuse,
                delete_snapshot=refuse)), (OSError,))
        for call in (lambda: api.manage(host='h'), lambda: api.status('v'),
                     lambda: api.delete('v'), lambda: api.unmanage('v'),
                     lambda: api.reset('v', 'error'),
                     lambda: api.extend('v', 2),
                     lambda: api.delete_snapshot('s')):
            with self.assertRaisesRegex(exceptions.VolumeApiFailed,
                                        'no quota$'):
                call()

    def test_each_answer_of_the_api_has_its_remedy(self):
        from keystoneauth1 import exceptions as keystone
        from openstack import exceptions as sdk

        for error, remedy in (
                (sdk.HttpException('no', http_status=401), 'log in again'),
                (keystone.Unauthorized('no'), 'log in again'),
                (sdk.ForbiddenException('no', http_status=403), 'role admin'),
                (keystone.Forbidden('no'), 'role admin'),
                (sdk.ConflictException('no', http_status=409), 'later$'),
                (sdk.NotFoundException('no', http_status=404), 'gone by now'),
                (keystone.ServiceUnavailable('no'), 'cinder-api'),
                (keystone.ConnectFailure('no'), 'cinder-api'),
                (keystone.DiscoveryFailure('no'), 'cinder-api'),
                (sdk.NotSupported('it is unavailable or misconfigured'),
                 'cinder-api'),
                (sdk.BadRequestException('it is in-use', http_status=400),
                 'in-use$')):
            with self.subTest(error):
                said = str(volume_api.failure(error))
                self.assertRegex(said, remedy)
                self.assertNotIn('\n', said)

    def test_without_a_cloud_in_the_environment_it_is_said(self):
        volume_api.connect.cache_clear()
        with mock.patch.dict(os.environ, {
                'OS_CLIENT_CONFIG_FILE': os.devnull}), \
                self.assertRaises(exceptions.VolumeApiFailed):
            volume_api.connect().status('v')
        volume_api.connect.cache_clear()
