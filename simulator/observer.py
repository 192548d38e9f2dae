# SPDX-License-Identifier: Apache-2.0
"""What a vCenter has, read by pyVmomi in few calls.

pyVmomi makes a call for each property of each object that is looked at;
tests look at many, often.
"""

import ssl
import time
from typing import Any

from pyVmomi import pbm
from pyVmomi import SoapStubAdapter
from pyVmomi import vim
from pyVmomi import vmodl

_PC = vmodl.query.PropertyCollector
_FIRST_PAUSE_SECONDS = 0.004
_LONGEST_PAUSE_SECONDS = 0.1


def wait(task: Any) -> Any:
    """Wait for a task.

    :returns: its result
    :raises: its error
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        info = task.info
        if info.state == vim.TaskInfo.State.success:
            return info.result
        if info.state == vim.TaskInfo.State.error:
            raise info.error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def properties(service: Any, managed: Any, *paths: str) -> dict[str, Any]:
    """Some properties of one object; those that it lacks are left out."""
    found = service.content.propertyCollector.RetrieveContents([
        _PC.FilterSpec(
            objectSet=[_PC.ObjectSpec(obj=managed)],
            propSet=[_PC.PropertySpec(type=type(managed),
                                      pathSet=list(paths))])])
    return {each.name: each.val for each in found[0].propSet}


def properties_of_all(service: Any, kind: Any, *paths: str
                      ) -> list[tuple[Any, dict[str, Any]]]:
    """Some properties of each object of a kind in the inventory."""
    content = service.content
    view = content.viewManager.CreateContainerView(
        content.rootFolder, [kind], True)
    try:
        found = content.propertyCollector.RetrieveContents([_PC.FilterSpec(
            objectSet=[_PC.ObjectSpec(obj=view, skip=True, selectSet=[
                _PC.TraversalSpec(type=vim.view.ContainerView, path='view',
                                  skip=False)])],
            propSet=[_PC.PropertySpec(type=kind, pathSet=list(paths))])])
    finally:
        view.Destroy()
    return [(each.obj, {one.name: one.val for one in each.propSet})
            for each in found]


def policy_service(vcenter: Any, service: Any) -> Any:
    """The content of the storage policy service, for a login.

    :param vcenter: a simulator.client.Simulator or Address
    :param service: a ServiceInstance, whose session it uses
    """
    stub = SoapStubAdapter(
        host=vcenter.host, port=vcenter.port, path='/pbm/sdk',
        version='pbm.version.version14',
        sslContext=ssl.create_default_context(cafile=vcenter.cacert))
    cookie = service._stub.cookie
    stub.requestContext = {'vcSessionCookie': cookie.split('=', 1)[1].split(
        ';')[0].strip('"')}
    stub.cookie = cookie
    return pbm.ServiceInstance('ServiceInstance', stub).RetrieveContent()


def policies_of_disk(service: Any, vm: Any, disk: Any) -> list[str]:
    """The names of the storage policies that a disk is associated with.

    :param service: what policy_service() returns
    """
    manager = service.profileManager
    found = manager.QueryAssociatedProfile(pbm.ServerObjectRef(
        objectType='virtualDiskId', key=f'{vm._moId}:{disk.key}'))
    return [each.name for each in manager.RetrieveContent(found)] if (
        found) else []
