# SPDX-License-Identifier: Apache-2.0
"""Templates of snapshots move with a volume to its new project."""

from pyVmomi import vim

from cinder import context as cinder_context

from cinder_vmdk_ext.tests.functional import backend_case


class TransferTestCase(backend_case.BackendCase):
    """A volume with templates that another project accepts."""

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def test_templates_follow_a_transfer(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        member = cinder_context.RequestContext(
            'user', 'another', is_admin=False, roles=['member'])
        self.driver.accept_transfer(member, volume, 'user', 'another')
        template = self.shadow_vms()[snapshot.name]
        folders = []
        entity = template.parent
        while isinstance(entity, vim.Folder):
            folders.append(entity.name)
            entity = entity.parent
        self.assertIn('Project (another)', folders)
