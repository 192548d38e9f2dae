# SPDX-License-Identifier: Apache-2.0
"""Known extra specs are accepted, and unknown ones are refused."""

import unittest

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import extra_specs


def policies():
    return ['gold', 'silver']


def never():
    raise AssertionError('the vCenter was asked')


class CheckTestCase(unittest.TestCase):

    def test_no_specs_are_good_and_ask_nobody(self):
        extra_specs.check({}, never)

    def test_specs_of_others_are_none_of_ours(self):
        extra_specs.check({'vmdk_type': 'fat', 'other:vmdk_type': 'fat'},
                          never)

    def test_what_upstream_takes_is_good(self):
        for disk in (upstream.VirtualDiskType.THIN,
                     upstream.VirtualDiskType.PREALLOCATED,
                     upstream.VirtualDiskType.EAGER_ZEROED_THICK):
            extra_specs.check({'vmware:vmdk_type': {
                'preallocated': 'thick'}.get(disk, disk)}, never)
        for adapter in (upstream.VirtualDiskAdapterType.LSI_LOGIC,
                        upstream.VirtualDiskAdapterType.BUS_LOGIC,
                        upstream.VirtualDiskAdapterType.LSI_LOGIC_SAS,
                        upstream.VirtualDiskAdapterType.PARA_VIRTUAL,
                        upstream.VirtualDiskAdapterType.IDE):
            upstream.VirtualDiskAdapterType.validate(adapter)
            extra_specs.check({'vmware:adapter_type': adapter}, never)
        for clone in (upstream.FULL_CLONE_TYPE, upstream.LINKED_CLONE_TYPE):
            extra_specs.check({'vmware:clone_type': clone}, never)

    def test_each_bad_value_is_told_with_the_good_ones(self):
        for spec, good in (('vmdk_type', 'thin, thick, eagerZeroedThick'),
                           ('adapter_type', 'paraVirtual'),
                           ('clone_type', 'full, linked'),
                           ('storage_profile', 'gold, silver')):
            for value in ('nonsense', 'THIN', '<is> thin', 'a\nb'):
                with self.subTest(spec, value=value):
                    with self.assertRaises(
                            exceptions.InvalidExtraSpec) as caught:
                        extra_specs.check({f'vmware:{spec}': value}, policies)
                    message = str(caught.exception)
                    self.assertIn(f'vmware:{spec}', message)
                    self.assertIn(repr(value), message)
                    self.assertIn(good, message)
                    self.assertEqual(1, len(message.splitlines()))

    def test_an_empty_value_of_a_choice_is_bad(self):
        self.assertRaises(exceptions.InvalidExtraSpec, extra_specs.check,
                          {'vmware:vmdk_type': ''}, never)

    def test_a_key_that_is_misspelt_is_named_with_the_right_one(self):
        for spec, right in (('vmware:vmdk_typ', 'vmware:vmdk_type'),
                            ('vmware:vmdktype', 'vmware:vmdk_type'),
                            ('VMware:adapter_type', 'vmware:adapter_type'),
                            ('vmware: clone_type', 'vmware:clone_type'),
                            ('vmware:storage_policy',
                             'vmware:storage_profile')):
            with self.assertRaises(exceptions.InvalidExtraSpec) as caught:
                extra_specs.check({spec: 'x'}, never)
            self.assertIn(f'extra spec {spec} has', str(caught.exception))
            self.assertIn(f'write {right}, or', str(caught.exception))

    def test_a_key_like_no_other_is_refused_with_all_that_are_known(self):
        with self.assertRaisesRegex(
                exceptions.InvalidExtraSpec,
                'remove it .the known keys are vmware:vmdk_type, '
                'vmware:adapter_type, '
                'vmware:clone_type, vmware:storage_profile'):
            extra_specs.check({'vmware:x': 'y'}, never)

    def test_a_policy_of_the_vcenter_is_good(self):
        extra_specs.check({'vmware:storage_profile': 'gold'}, policies)

    def test_a_vcenter_without_policies(self):
        with self.assertRaisesRegex(exceptions.InvalidExtraSpec,
                                    'it has none'):
            extra_specs.check({'vmware:storage_profile': 'gold'}, list)


class ThinTestCase(unittest.TestCase):

    def test_thin_is_the_default(self):
        self.assertTrue(extra_specs.is_thin({}))

    def test_both_thick_types_are_not(self):
        self.assertEqual([True, False, False], [
            extra_specs.is_thin({'vmware:vmdk_type': kind})
            for kind in ('thin', 'thick', 'eagerZeroedThick')])
