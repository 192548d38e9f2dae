# SPDX-License-Identifier: Apache-2.0
"""Makes shadow VMs and attached disks of many volumes in a simulated vCenter.

The VMs are those that the simulator makes at its start. They get the names,
the marks and the folder of shadow VMs; some of their disks are given to
instances, which are the last VMs.
"""

import itertools
import threading
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from pyVmomi import vim

from simulator import client
from simulator import observer

DISKS_AN_INSTANCE = 14
_DEVICES = 'config.hardware.device'
_THREADS = 4
_MOVED_AT_ONCE = 500
_MARK = 'cinder.volume.id'

Volume = dict[str, Any]


def machines(volumes: int, attached: int) -> int:
    """How many VMs the simulator has to make."""
    return volumes - -attached // DISKS_AN_INSTANCE


def make(vcenter: client.Simulator, volumes: int, attached: int,
         mark: str = _MARK) -> list[Volume]:
    """Make the VMs of volumes; the first ``attached`` are attached.

    :param mark: key of the extraConfig in which a shadow VM has its volume
    :returns: of each volume its id, its datastore's name, and of an attached
        one the UUID (``instance``) and moref (``vm``) of its instance
    """
    service = vcenter.connect()
    found = observer.properties_of_all(
        service, vim.VirtualMachine, 'config.instanceUuid',
        'config.files.vmPathName')
    shadows, instances = found[:volumes], found[volumes:]
    made = [{'id': each['config.instanceUuid'],
             'datastore': each['config.files.vmPathName'][1:].partition(
                 ']')[0]} for _vm, each in shadows]
    _in_threads(vcenter, [
        (vm._moId, one, number < attached, mark) for number, ((vm, _), one)
        in enumerate(zip(shadows, made))], _mark)
    _move(service, [vm for vm, _ in shadows])
    work = []
    for number, (vm, each) in enumerate(instances):
        its = slice(number * DISKS_AN_INSTANCE,
                    min((number + 1) * DISKS_AN_INSTANCE, attached))
        for one in made[its]:
            one |= {'instance': each['config.instanceUuid'], 'vm': vm._moId}
        work.append((vm._moId, [each._moId for each, _ in shadows[its]]))
    _in_threads(vcenter, work, _attach)
    return made


def _in_threads(vcenter: client.Simulator, work: Iterable[Any],
                action: Callable[..., None]) -> None:
    """Run an action on each piece of work; each thread has a session."""
    waiting = iter(list(work))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            service = vcenter.connect()
            for each in waiting:
                action(service, *each)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(_THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failed:
        raise failed[0]


def _mark(service: Any, moref: str, volume: Volume, attached: bool,
          mark: str) -> None:
    vm = vim.VirtualMachine(moref, service._stub)
    spec = vim.vm.ConfigSpec(
        name=f'volume-{volume["id"]}',
        extraConfig=[vim.option.OptionValue(key=mark, value=volume['id'])])
    if attached:
        disk = _disks(vm)[0]
        disk.backing.uuid = volume['id']
        spec.deviceChange = [vim.vm.device.VirtualDeviceSpec(
            operation='edit', device=disk)]
    observer.wait(vm.ReconfigVM_Task(spec))


def _attach(service: Any, moref: str, shadows: list[str]) -> None:
    if not shadows:
        return
    vm = vim.VirtualMachine(moref, service._stub)
    own = _disks(vm)[0]
    free = (unit for unit in itertools.count() if unit not in (
        7, own.unitNumber))
    changes = []
    for number, each in enumerate(shadows):
        disk, = _disks(vim.VirtualMachine(each, service._stub))
        changes.append(vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.VirtualDisk(
                key=-number - 1, controllerKey=own.controllerKey,
                unitNumber=next(free), capacityInKB=disk.capacityInKB,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName=disk.backing.fileName,
                    diskMode='independent_persistent'))))
    observer.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=changes)))


def _disks(vm: Any) -> list[Any]:
    return [each for each in vm.config.hardware.device
            if isinstance(each, vim.vm.device.VirtualDisk)]


def _move(service: Any, shadows: list[Any]) -> None:
    """Into the folder of a project's shadow VMs."""
    folder = service.content.rootFolder.childEntity[0].vmFolder
    for name in ('OpenStack', 'Project (p)', 'Volumes'):
        folder = folder.CreateFolder(name)
    for start in range(0, len(shadows), _MOVED_AT_ONCE):
        observer.wait(folder.MoveIntoFolder_Task(
            shadows[start:start + _MOVED_AT_ONCE]))
