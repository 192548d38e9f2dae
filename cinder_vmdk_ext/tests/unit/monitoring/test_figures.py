# SPDX-License-Identifier: Apache-2.0
"""The text for Prometheus, read by prometheus_client's own parser."""

import unittest

from oslo_utils import units
from prometheus_client import parser

from cinder_vmdk_ext.monitoring import figures

POOL = {'pool_name': 'gold "1"\\', 'pool_state': 'available',
        'total_capacity_gb': 10.5, 'free_capacity_gb': 0,
        'provisioned_capacity_gb': 3.0, 'total_volumes': None}


def parsed(*many):
    """Values by names and labels."""
    return {(sample.name, *sorted(sample.labels.items())): sample.value
            for family in parser.text_string_to_metric_families(
                figures.text(many)) for sample in family.samples}


class FiguresTestCase(unittest.TestCase):

    def test_pools_of_a_report(self):
        report = {'pools': [POOL], 'backend_state': 'up',
                  'backend_state_reason': '', 'stats_age_seconds': 7}
        found = parsed(figures.of_report('vmdk', 'host', report))
        of_pool = (('backend', 'vmdk'), ('pool', 'gold "1"\\'))
        self.assertEqual({
            ('cinder_vmdk_up', ('backend', 'vmdk')): 1.0,
            ('cinder_vmdk_report_age_seconds', ('backend', 'vmdk')): 7.0,
            ('cinder_vmdk_pool_available', *of_pool): 1.0,
            ('cinder_vmdk_pool_capacity_bytes', *of_pool): 10.5 * units.Gi,
            ('cinder_vmdk_pool_free_bytes', *of_pool): 0.0,
            ('cinder_vmdk_pool_provisioned_bytes', *of_pool): 3.0 * units.Gi,
        }, found)

    def test_two_backends_share_each_family(self):
        report = {'pools': [], 'backend_state': 'down',
                  'stats_age_seconds': -1}
        found = parsed(*(figures.of_report(name, '', report) | {
            'tasks': [{'kind': 'VirtualMachine.clone', 'result': 'success',
                       'count': number, 'seconds': 1.5}],
            'logins': 2, 'audit': {'lost': number, 'orphan': 0},
            'promised': [{'pool': 'a', 'size_bytes': 1, 'volumes': 1},
                         {'pool': 'a', 'size_bytes': 2, 'volumes': 1}]}
            for number, name in enumerate(('one', 'two'))))
        labels = (('backend', 'two'), ('kind', 'VirtualMachine.clone'),
                  ('result', 'success'))
        self.assertEqual([1.0, 1.5, 2.0, 3.0, 1.0], [found[key] for key in (
            ('cinder_vmdk_task_seconds_count', *labels),
            ('cinder_vmdk_task_seconds_sum', *labels),
            ('cinder_vmdk_logins_total', ('backend', 'two')),
            ('cinder_vmdk_promised_bytes', ('backend', 'one'), ('pool', 'a')),
            ('cinder_vmdk_audit_findings', ('backend', 'two'),
             ('kind', 'lost')))])
        self.assertEqual(0.0, found['cinder_vmdk_up', ('backend', 'one')])

    def test_a_driver_that_has_ended_has_none(self):
        self.assertIsNone(figures.of_driver(lambda: None))
