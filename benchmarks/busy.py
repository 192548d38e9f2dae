# SPDX-License-Identifier: Apache-2.0
"""Changes VMs and datastores of a vCenter, each kind at its own rate.

It is a separate process, so that its cost is not counted as the driver's. The
first line of its standard input names the vCenter and the changes per second
of each kind, as JSON. It answers each further line with the number of changes
made so far, and ends with its input.
"""

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from pyVmomi import vim
from pyVmomi import vmodl

from simulator import client


# Shadow VMs have the names of their volumes.
OURS = 'volume-'
FIELD = 'benchmark'


def repeat(things: Iterable[Any], change: Callable[[Any, int], None],
           rate: float, count: list[int]) -> None:
    """Change one object after the other, ``rate`` per second, for ever.

    :param count: its only element is the number of changes made
    """
    due = time.monotonic()
    for number, thing in enumerate(itertools.cycle(things)):
        change(thing, number)
        count[0] += 1
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))


class Changes:
    """The kinds of changes; each kind has a session of its own."""

    def __init__(self, vcenter: dict[str, Any]) -> None:
        self.content = client.log_in(
            client.Address(**vcenter, pid=0)).content

    def machines(self) -> tuple[list[Any], Callable[[Any, int], None]]:
        """VMs of other users."""
        return [vm for vm, name in self._named(vim.VirtualMachine)
                if not name.startswith(OURS)], self._annotate

    def ours(self) -> tuple[list[Any], Callable[[Any, int], None]]:
        """Shadow VMs."""
        return [vm for vm, name in self._named(vim.VirtualMachine)
                if name.startswith(OURS)], self._annotate

    def datastores(self) -> tuple[list[Any], Callable[[Any, int], None]]:
        """Custom attributes of datastores."""
        manager = self.content.customFieldsManager
        fields = [each.key for each in manager.field or ()
                  if each.name == FIELD]
        key = fields[0] if fields else manager.AddFieldDefinition(
            FIELD, vim.Datastore).key

        def change(datastore: Any, number: int) -> None:
            manager.SetField(datastore, key, str(number))
        return [each for each, _name in self._named(vim.Datastore)], change

    @staticmethod
    def _annotate(machine: Any, number: int) -> None:
        machine.ReconfigVM_Task(
            vim.vm.ConfigSpec(annotation=f'change {number}'))

    def _named(self, kind: Any) -> list[tuple[Any, str]]:
        view = self.content.viewManager.CreateContainerView(
            self.content.rootFolder, [kind], True)
        collector = vmodl.query.PropertyCollector
        found = self.content.propertyCollector.RetrieveContents([
            collector.FilterSpec(
                objectSet=[collector.ObjectSpec(
                    obj=view, skip=True, selectSet=[
                        collector.TraversalSpec(
                            type=vim.view.ContainerView, path='view',
                            skip=False)])],
                propSet=[collector.PropertySpec(type=kind,
                                                pathSet=['name'])])])
        view.Destroy()
        return [(each.obj, each.propSet[0].val) for each in found]


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    count = [0]
    for kind, rate in plan['rates'].items():
        things, change = getattr(Changes(plan['vcenter']), kind)()
        threading.Thread(target=repeat, daemon=True, args=(
            things, change, rate, count)).start()
    for _line in sys.stdin:
        print(count[0], flush=True)


if __name__ == '__main__':
    main()
