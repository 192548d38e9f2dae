# SPDX-License-Identifier: Apache-2.0
"""Creates the vCenter user of cinder-volume, with only the needed privileges.

The privileges are those of cinder_vmdk_ext.vsphere.privileges. Two roles give
them, as docs/privileges.md recommends: one on the root folder that does not
propagate, and one on each datacenter that does.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext.vsphere import privileges
from simulator import client
from simulator import control

NAME = 'cinder@vsphere.local'
ROOT_ROLE = 'Cinder (vCenter)'
DATACENTER_ROLE = 'Cinder (datacenter)'


class Login(NamedTuple):
    """How a service logs in to a vCenter."""

    user: str
    password: str


def of(vcenter: 'client.Address | client.Simulator',
       more: Sequence[str] = ()) -> Login:
    """The user in a simulated vCenter; created if it does not exist.

    Its password is that of the simulator's administrator.

    :param more: privileges on the datacenters in addition to the needed ones
    """
    login = Login(NAME, str(vcenter.password))
    granted = control.Control(vcenter.control_url).granted()
    if NAME not in [each['name'] for each in granted['users']]:
        grant(vcenter, login, privileges.TABLE, more)
    return login


def grant(vcenter: 'client.Address | client.Simulator', login: Login,
          table: Any, more: Sequence[str] = ()) -> None:
    """Give the user the privileges of a table, in place of what it had.

    :param more: privileges on the datacenters beside those
    """
    above = [each.id for each in table if each.on == privileges.ROOT]
    below = [each.id for each in table if each.on != privileges.ROOT]
    control.Control(vcenter.control_url).grant(
        [{'name': login.user, 'password': login.password}],
        {ROOT_ROLE: above, DATACENTER_ROLE: sorted({*below, *more})},
        [{'entity': '/', 'user': login.user, 'role': ROOT_ROLE,
          'propagate': False},
         {'every': 'Datacenter', 'user': login.user,
          'role': DATACENTER_ROLE}])
