# SPDX-License-Identifier: Apache-2.0
"""Changes other users' VMs in a vCenter, one after the other.

It is a separate process, so that its cost is not counted as the driver's. The
first line of its standard input is the vCenter as JSON. It answers each
further line with the number of changes made so far, and ends with its input.
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
    """Change one VM after the other, ``rate`` per second, for ever.

    :param count: its only element is the number of changes made
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
