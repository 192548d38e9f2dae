# SPDX-License-Identifier: Apache-2.0
"""Parts of the driver that need no vCenter."""

import re
import unittest

from oslo_vmware import pbm

from cinder.volume import driver as base
from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import driver
from cinder_vmdk_ext.scheduling import extra_specs
from sandbox.embedded import section


class VendorPropertiesTestCase(unittest.TestCase):
    """What ``cinder get-capabilities`` shows of the extra specs."""

    def test_each_spec_is_there_with_the_values_it_takes(self):
        made = driver.VmdkExtDriver(configuration=section.read())
        properties, vendor = made._init_vendor_properties()
        self.assertEqual('vmware', vendor)
        self.assertEqual(['full', 'linked'],
                         properties['vmware:clone_type']['enum'])
        self.assertNotIn('enum', properties['vmware:storage_profile'])
        self.assertEqual(
            {'vmware:vmdk_type': 'thin', 'vmware:clone_type': 'full'},
            {key: each['default'] for key, each in properties.items()
             if 'default' in each})
        self.assertEqual({*extra_specs._KNOWN, 'vmware:qos_specs'},
                         set(properties))


class VersionTestCase(unittest.TestCase):
    """Which description of the storage policy service is taken."""

    def test_a_version_that_oslo_vmware_lacks_takes_the_newest_below(self):
        self.assertEqual('8.0', driver.newest_pbm_version('9.0.0'))
        self.assertIsNotNone(pbm.get_pbm_wsdl_location(
            driver.newest_pbm_version('99.1.2')))

    def test_never_one_that_is_newer(self):
        self.assertEqual('7.0', driver.newest_pbm_version('7.9.9'))

    def test_none_below_the_oldest(self):
        self.assertIsNone(driver.newest_pbm_version('5.0.0'))


class MakingTestCase(unittest.TestCase):
    """Every way in which a volume is made is checked in the same place."""

    def test_all_of_cinders_hooks_that_make_a_volume_say_so(self):
        ways = {name for name in dir(base.VolumeDriver)
                if re.match('create_.*volume|clone_image|manage_existing$|'
                            'copy_image_to_(encrypted_)?volume', name)}
        # What we do not override ends in one of the others.
        ours = {name: member.hook.makes for name, member
                in vars(driver.VmdkExtDriver).items()
                if hasattr(member, 'hook')}
        self.assertEqual(ways & set(ours),
                         {name for name, makes in ours.items() if makes})
        self.assertLessEqual({
            'create_volume', 'create_volume_from_snapshot',
            'create_cloned_volume', 'clone_image', 'copy_image_to_volume',
            'manage_existing'}, ways)


class OptionsTestCase(unittest.TestCase):

    def test_upstreams_options_and_ours(self):
        names = {option.name for option
                 in driver.VmdkExtDriver.get_driver_options()}
        self.assertLess({option.name for option in vmdk.vmdk_opts}, names)
        self.assertIn('vmdk_ext_datastore_pools', names)

    def test_before_it_is_set_up_the_driver_reports_as_upstreams_does(self):
        made = driver.VmdkExtDriver(configuration=section.read(),
                                    host='cinder-1@vmdk')
        self.assertEqual('unknown', made.get_volume_stats(True)[
            'free_capacity_gb'])
        self.assertFalse(made.get_pool({'id': 'x', 'name': 'x'}))
