#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write down which privilege each method and property of the API needs, from pyVmomi's type tables.

The API's reference names a privilege for most methods ("Required privileges: Folder.Create"), for many of their parameters, and
for properties; pyVmomi carries the same in its tables. What depends on the content of a request (the reference calls it
dynamic) is not there; it is in demands.go.

One line for each fact, sorted:

    method VirtualMachine.CreateSnapshot_Task VirtualMachine.State.CreateSnapshot
    method Folder.CreateVM_Task VirtualMachine.Inventory.Create pool=Resource.AssignVMToPool
    method VirtualMachine.ReconfigVM_Task -
    property VirtualMachine.datastore System.View
    type VirtualMachine ManagedEntity

Usage: generate.py OUT
"""
import sys

from pyVmomi import VmomiSupport

# The vSphere API and the storage policy API: pyVmomi also knows services that the simulator does not have.
SERVICES = ('vim.', 'vmodl.', 'pbm.')


def managed_types():
    """The managed object types of these services, by the names that a reference on the wire has."""
    for name in sorted(VmomiSupport._managedDefMap):
        if name.startswith(SERVICES) and not name.startswith(('vim.vsan.', 'vim.cns.')):
            yield VmomiSupport.GetVmodlType(name)


def method_line(kind, method):
    """One method: its privilege on the object that is called, then those on objects that parameters name."""
    parameters = [f'{each.name}={each.privId}' for each in method.params if each.privId]
    return ' '.join(['method', f'{kind}.{method.wsdlName}', method.privId or '-', *parameters])


def lines():
    """All lines of the table."""
    for kind in managed_types():
        name = kind._wsdlName
        parent = getattr(kind.__mro__[1], '_wsdlName', None)
        if parent and parent != name:
            yield f'type {name} {parent}'
        for method in kind._methodInfo.values():
            yield method_line(name, method)
        for prop in kind._propInfo.values():
            if prop.privId:
                yield f'property {name}.{prop.name} {prop.privId}'


def table():
    """The whole table."""
    return ''.join(f'{line}\n' for line in sorted(set(lines())))


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], 'w', encoding='ascii') as file:
        file.write(table())
