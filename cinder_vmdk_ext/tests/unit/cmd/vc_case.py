# SPDX-License-Identifier: Apache-2.0
"""Runs ``vc`` commands with a storage API that records its calls."""

import contextlib
import io
import os
import types
import unittest
from unittest import mock

from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.vsphere import storage_api


class Backends:
    """Two backends of one vCenter, or of two."""

    hosts = ['vc', 'vc']

    def load(self, files):
        pass

    def names(self, wanted):
        return [wanted] if wanted else ['0', '1']

    def connection(self, name):
        return types.SimpleNamespace(
            vmware_host_ip=self.hosts[int(name)], vmware_host_port=443,
            vmware_host_username='Cinder', vmware_ca_file=None,
            vmware_insecure=False)

    def owner_of(self, path):
        return ''

    def owner_of_uuid(self, uuid):
        return ''


class VcCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.api = mock.MagicMock(host='vc')
        self.logins = []

        @contextlib.contextmanager
        def connect(host, user, password, **more):
            self.logins.append((host, user, password))
            yield self.api
        self.enterContext(mock.patch.object(storage_api, 'connect', connect))
        self.enterContext(mock.patch.dict(os.environ, {
            'VCENTER_USERNAME': 'me', 'VCENTER_PASSWORD': 'secret'}))

    def run_vc(self, *words, backends=None, answers=''):
        """Its exit status and what it says of errors."""
        out, err = io.StringIO(), io.StringIO()
        status = main.Application(
            backends or Backends(), stdout=out, stderr=err,
            stdin=io.StringIO(answers)).run(['vc', *words])
        return status, err.getvalue()

    def assert_call(self, method, expected, *words):
        """That a command makes a call, once to check and once to act."""
        status, err = self.run_vc(*words, '--yes')
        self.assertEqual((0, ''), (status, err))
        self.assertEqual([expected, expected], method.call_args_list[-2:])
