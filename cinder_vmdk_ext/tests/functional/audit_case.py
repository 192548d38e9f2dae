# SPDX-License-Identifier: Apache-2.0
"""Audits of one backend, for tests of their findings and moves."""

from pyVmomi import vim

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.tests.functional import backend_case


class AuditCase(backend_case.BackendCase):
    """Audits of one backend."""

    def audit(self, named=()):
        return compare.compare(
            collect.EvidenceReader(self.driver.backend, named).read())

    def kinds(self):
        return [(each.kind, each.thing, each.owner) for each in self.audit()]

    def sweep(self, minimum_age_seconds=0, named=()):
        mover = quarantine.Quarantine(self.driver.backend)
        due = quarantine.due(self.audit(named), minimum_age_seconds)
        for each in due:
            mover.move(each)
        return due

    def rename(self, vm, **spec):
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(**spec)))

    def copy_of(self, volume, name, **config):
        vm = self.truth(volume).vm
        return self.wait(vm.CloneVM_Task(
            vm.parent, name, vim.vm.CloneSpec(
                location=vim.vm.RelocateSpec(), template=False,
                powerOn=False, config=vim.vm.ConfigSpec(**config))))
