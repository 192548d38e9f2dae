# SPDX-License-Identifier: Apache-2.0
"""Other people's work in a vCenter: their VMs are reconfigured, one by one.

A process of its own, so that what it costs is not taken for the driver's. It
takes the vCenter as JSON in the first line of its standard input, and then
answers each line with the number of changes made so far, until there is none.
"""

import itertools
import json
import sys
import threading
import time

from pyVmomi import vim

from simulator import client


def reconfigure(machines: list[vim.VirtualMachine], rate: float,
                count: list[int]) -> None:
    """Change one VM after the other, ``rate`` a second, for ever.

    :param count: its one element is the number of changes made
    """
    due = time.monotonic()
    for number, machine in enumerate(itertools.cycle(machines)):
        machine.ReconfigVM_Task(
            vim.vm.ConfigSpec(annotation=f'change {number}'))
        count[0] += 1
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    content = client.log_in(client.Address(**plan['vcenter'], pid=0)).content
    view = content.viewManager.CreateContainerView(
        content.rootFolder, [vim.VirtualMachine], True)
    count = [0]
    threading.Thread(target=reconfigure, daemon=True, args=(
        list(view.view), plan['rate'], count)).start()
    for _line in sys.stdin:
        print(count[0], flush=True)


if __name__ == '__main__':
    main()
