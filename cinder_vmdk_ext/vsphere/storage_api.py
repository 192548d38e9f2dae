# SPDX-License-Identifier: Apache-2.0
"""A vCenter's storage for programs: clusters, datastores, disks, snapshots.

An example::

    from cinder_vmdk_ext.vsphere import storage_api

    with storage_api.connect('vcenter.example.com', 'me@vsphere.local',
                             password, ca_file='/etc/ssl/vcenter.pem') as api:
        for datastore in api.datastores.all():
            print(datastore.name, datastore.free_bytes)
        api.disks.create('[gold] tools/scratch.vmdk', 20 << 30)

docs/storage-api.md has a line for each method. Names are those that vSphere's
client shows; if several objects share a name, use their references. A request
that cannot be fulfilled raises ``exceptions.StorageRefused`` before anything
is changed, a missing privilege raises ``exceptions.PrivilegeMissing``, and a
refusal by the vCenter raises an exception of oslo.vmware. Sizes are in bytes.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import clusters
from cinder_vmdk_ext.vsphere import datastores
from cinder_vmdk_ext.vsphere import session as vsphere_session
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transfers
from cinder_vmdk_ext.vsphere import vcenter
from cinder_vmdk_ext.vsphere import virtual_disks
from cinder_vmdk_ext.vsphere import vm_snapshots

_RETRIES = 10
_POLL_SECONDS = 1.0


class StorageApi:
    """The parts of the API, which share one session."""

    def __init__(self, of: vcenter.Vcenter, transfer: transfers.Transfers,
                 host: str = '') -> None:
        """Make no call; programs use :func:`connect` instead."""
        self._vcenter = of
        #: The vCenter's name or address.
        self.host = host
        self.clusters = clusters.Clusters(of)
        self.datastores = datastores.Datastores(of)
        self.disks = virtual_disks.VirtualDisks(of)
        self.snapshots = vm_snapshots.VmSnapshots(of, transfer)

    @property
    def user(self) -> str:
        """The name of the logged-in user, as the vCenter spells it."""
        return str(self._vcenter.session.user_name)

    @contextlib.contextmanager
    def dry_run(self) -> Iterator[None]:
        """In this block, make all checks and no changes."""
        before, self._vcenter.dry_run = self._vcenter.dry_run, True
        try:
            yield
        finally:
            self._vcenter.dry_run = before


@contextlib.contextmanager
def connect(host: str, user: str, password: str, *, port: int = 443,
            ca_file: str | None = None, insecure: bool = False,
            owner_of: Callable[[str], str] = lambda path: '',
            owner_of_uuid: Callable[[str], str] = lambda uuid: '',
            observe: Callable[[vcenter.Progress], None] = (
                lambda progress: None)) -> Iterator[StorageApi]:
    """Log in, and log out at the end of the block.

    :param ca_file: verifies the vCenter; None: the system's authorities
    :param owner_of: returns the owner of a path within a datastore, such as
        'volume 1234', whose files are left alone; '': no known owner
    :param owner_of_uuid: the same for the UUID of a disk, which it keeps when
        its path changes
    :param observe: called with the progress of a long task
    :raises StorageRefused: the vCenter refuses the login
    :raises VimConnectionException: it does not answer
    """
    try:
        session: Any = vsphere_session.Session(
            host, user, password, _RETRIES, _POLL_SECONDS, port=port,
            cacert=ca_file, insecure=insecure, pool_size=2,
            op_id_prefix='vc')
    except vmware_exceptions.VimFaultException as fault:
        if {'InvalidLogin', vmware_exceptions.NO_PERMISSION} & {
                *fault.fault_list}:
            raise exceptions.StorageRefused(
                f'the vCenter {host} refuses the user {user!r} with that '
                'password') from None
        raise
    try:
        yield StorageApi(
            vcenter.Vcenter(session, soap.Client(session.https),
                            owner_of=owner_of, owner_of_uuid=owner_of_uuid,
                            observe=observe),
            transfers.Transfers(session, host, port, ca_file=ca_file,
                                insecure=insecure), host)
    finally:
        session.logout()
