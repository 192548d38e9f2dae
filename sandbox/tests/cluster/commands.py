# SPDX-License-Identifier: Apache-2.0
"""`cinder-vmdk-ext audit` and `sweep`, as an operator runs them."""

import json
from pathlib import Path
import subprocess
import sysconfig

from pyVim import task
from pyVmomi import vim

from sandbox import inspection

QUARANTINE = 'Quarantine'


def audit(cloud):
    """What the audit finds: a sentence each."""
    return [f'{each["kind"]} {each["thing"]} {each["name"]} '
            f'{each["owner"]} {each["place"]} {each["detail"]}'
            for each in _run(cloud, 'audit')]


def sweep(cloud):
    """Move to quarantine what a sweep would, however young it is.

    :returns: for each, its kind and whether it was moved
    """
    return [f'{each["kind"]} {each["thing"]} swept: {each["done"]}'
            for each in _run(cloud, 'sweep', '--act', '--yes',
                             '--minimum-age', '0')]


def empty_quarantine(cloud):
    """Delete the objects in quarantine in the vCenter."""
    with inspection.Inspector(cloud.vcenter) as vcenter:
        content = vcenter.content
        view = content.viewManager.CreateContainerView(
            content.rootFolder, [vim.Folder], True)
        for folder in list(view.view):
            if folder.name == QUARANTINE:
                for vm in list(folder.childEntity):
                    task.WaitForTask(vm.Destroy_Task())


def _run(cloud, command, *options):
    done = subprocess.run(
        [str(Path(sysconfig.get_path('scripts')) / 'cinder-vmdk-ext'),
         command, '--config-file', str(cloud.cinder_conf),
         '--config-file', str(cloud.volume_conf), '--format', 'json',
         *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f'{command}: {done.returncode}\n{done.stdout}'
                             f'{done.stderr[-3000:]}') from None
