# SPDX-License-Identifier: Apache-2.0
"""Runs the command `check` on a backend; its results by check."""

from oslo_config import cfg

from cinder_vmdk_ext.audit import readiness
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.tests.functional import command_case


class CheckCase(command_case.CommandCase):

    VCENTER = command_case.CommandCase.VCENTER | {
        'policy': ['gold=LocalDS_1,LocalDS_2', 'none=']}

    def setUp(self):
        super().setUp()
        explain.configured()
        names = [*readiness.NEEDED_FILTERS, readiness.ADVISED_FILTER]
        cfg.CONF.set_override('scheduler_default_filters', names)
        self.addCleanup(cfg.CONF.clear_override, 'scheduler_default_filters')

    def checked(self, status, **options):
        found = {}
        for each in self.listed('check', status=status, **options):
            found.setdefault(each['check'], []).append(
                (each['result'], each['detail']))
        return found
