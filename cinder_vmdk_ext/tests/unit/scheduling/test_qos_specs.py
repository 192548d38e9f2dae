# SPDX-License-Identifier: Apache-2.0
"""What QoS specs ask of a disk, and which are refused."""

import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import qos_specs
from cinder_vmdk_ext.vsphere import virtual_devices as devices


def parse(consumer='back-end', **specs):
    return qos_specs.parse('gold', consumer, specs)


class ParseTestCase(unittest.TestCase):

    def test_each_key_has_its_place(self):
        self.assertEqual(
            devices.Allocation(500, 100, 'custom', 2500),
            parse(disk_io_limit='500', disk_io_reservation='100',
                  disk_io_shares_level='custom', disk_io_shares_share='2500'))
        self.assertEqual(devices.Allocation(500), parse(total_iops_sec='500'))
        self.assertEqual(devices.Allocation(-1), parse(disk_io_limit='-1'))

    def test_levels_have_their_shares_and_a_number_alone_is_custom(self):
        for level, shares in ('low', 500), ('normal', 1000), ('high', 2000):
            self.assertEqual(devices.Allocation(level=level, shares=shares),
                             parse(disk_io_shares_level=level))
        self.assertEqual(devices.Allocation(level='custom', shares=200),
                         parse(disk_io_shares_share='200'))

    def test_what_is_for_the_front_end_asks_for_nothing(self):
        self.assertIsNone(parse('front-end', read_bytes_sec='1'))
        self.assertIsNone(parse('both', read_bytes_sec='1'))
        self.assertIsNone(parse())

    def test_values_that_vsphere_refuses_are_named(self):
        for specs, words in (
                ({'total_iops_sec': '15'}, 'total_iops_sec .*16 to'),
                ({'disk_io_limit': '0'}, 'disk_io_limit .*-1 for none'),
                ({'disk_io_limit': '1e3'}, "'1e3'"),
                ({'disk_io_limit': '2147483648'}, 'to 2147483647'),
                ({'disk_io_limit': '9' * 255}, 'to 2147483647'),
                ({'disk_io_limit': '-2'}, '-1 for none'),
                ({'disk_io_limit': ''}, "''"),
                ({'disk_io_limit': '100.0'}, 'a whole number'),
                ({'disk_io_limit': '\u0967\u0966\u0966'}, 'a whole number'),
                ({'disk_io_shares_share': '-300'}, '200 to 4000'),
                ({'disk_io_shares_level': ''}, "''.*low, normal"),
                ({'disk_io_reservation': '-1'}, 'from 0'),
                ({'disk_io_limit': '100', 'disk_io_reservation': '101'},
                 'above the limit 100'),
                ({'disk_io_shares_share': '199'}, '200 to 4000'),
                ({'disk_io_shares_share': '4001'}, '200 to 4000'),
                ({'disk_io_shares_level': 'gold'}, "'gold'.*low, normal"),
                ({'disk_io_shares_level': 'custom'}, 'disk_io_shares_share'),
                ({'disk_io_shares_level': 'low',
                  'disk_io_shares_share': '300'}, 'no effect with'),
                ({'disk_io_limit': '100', 'total_iops_sec': '200'},
                 'same limit')):
            with self.subTest(specs), self.assertRaisesRegex(
                    exceptions.InvalidQosSpec, f'QoS specs gold: .*{words}'):
                parse(**specs)

    def test_spaces_around_values_have_no_meaning(self):
        self.assertEqual(devices.Allocation(100, None, 'high', 2000), parse(
            disk_io_limit='100', total_iops_sec=' 100 ',
            disk_io_shares_level=' high'))

    def test_all_unknown_keys_are_named_at_once_with_what_was_meant(self):
        with self.assertRaisesRegex(
                exceptions.InvalidQosSpec,
                'no minIOPS, quota:disk_io_limit for a disk; perhaps .*'
                'disk_io_limit is meant; known are total_iops_sec, '):
            parse(**{'minIOPS': '1', 'quota:disk_io_limit': '100'})

    def test_of_the_front_end_only_both_may_hold_keys(self):
        with self.assertRaises(exceptions.InvalidQosSpec):
            parse(read_iops_sec='1')
        self.assertEqual(devices.Allocation(100), parse(
            'both', read_iops_sec='50', total_iops_sec='100',
            total_bytes_sec_per_gb='1', write_iops_sec_max='1'))
        with self.assertRaisesRegex(exceptions.InvalidQosSpec, 'no qos for'):
            parse('both', qos='1', read_iops_sec='50')


class IgnoredTestCase(unittest.TestCase):

    def test_all_of_the_front_end_and_what_both_cannot_do(self):
        specs = {'read_iops_sec': '1', 'total_iops_sec': '1'}
        self.assertEqual(sorted(specs), qos_specs.ignored('front-end', specs))
        self.assertEqual(['read_iops_sec'], qos_specs.ignored('both', specs))
        self.assertEqual([], qos_specs.ignored('back-end', specs))


if __name__ == '__main__':
    unittest.main()
