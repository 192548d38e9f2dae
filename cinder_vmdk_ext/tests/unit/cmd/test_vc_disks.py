# SPDX-License-Identifier: Apache-2.0
"""The calls of `vc disk` to the storage API."""

from unittest import mock

from cinder_vmdk_ext.tests.unit.cmd import vc_case


class VcDisksTestCase(vc_case.VcCase):

    def test_copy_keeps_the_type_that_is_not_named(self):
        self.assert_call(
            self.api.disks.copy,
            mock.call('[a] x.vmdk', '[b] y.vmdk', provisioning=None,
                      adapter='ide'),
            'disk', 'copy', '[a] x.vmdk', '[b] y.vmdk', '--adapter', 'ide')

    def test_extend_takes_a_size_with_its_unit(self):
        self.assert_call(
            self.api.disks.extend,
            mock.call('[a] x.vmdk', 2 << 30, eager_zero=True),
            'disk', 'extend', '[a] x.vmdk', '--size', '2GiB', '--eager-zero')
