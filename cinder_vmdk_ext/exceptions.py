# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, drawn::

    InvalidSettings(InvalidInput)           an option is missing or wrong
    Final(MetadataCopyFailure)              another pool does not cure it
      InvalidExtraSpec(InvalidVolumeType)   a volume type's value is invalid
      VolumeRefused(InvalidVolume)          no backend of ours can do that
        EncryptionRefused                   as VM encryption is another thing
        NoneComplies                        no datastore has its policy
      BackingLost(VolumeBackendAPIException)  a disk that was is missing
    NoPlacement(NoValidDatastoreException)  no datastore fits; each one's why
      UnknownPool                           volume.host names no datastore
      PromiseLost                           the promised datastore is gone
    OutcomeUnknown(VimConnectionException)  a change may have been executed
    PrivilegeMissing(NoPermissionException)  the user lacks a privilege
    TransferFailed(ImageTransferException)  an upload or download failed
    ConnectorRefused(InvalidConnectorException)  it needs the password
    LockUnavailable(LockCreationFailed)     the lock service does not answer
    UnusableImage(ImageUnacceptable)        its data is not as described
    QuarantineRefused(CinderException)      it stays in quarantine, and why
    RelinkRefused(CinderException)          a volume is not given that disk
    StorageRefused(VMwareDriverException)   a change of the vCenter's storage
      UnknownObject                         nothing there has that name
    TaskLeft(VMwareDriverException)         a task goes on without its caller

Each message is one sentence for an operator: the thing, its value, the remedy.
Bases are those that upstream's and Cinder's handlers already look for.
"""

from collections.abc import Mapping
from collections.abc import Sequence

from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception
from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions

# The base of all errors in which a call to the vCenter may end.
VMWARE_ERRORS = vmware_exceptions.VMwareDriverException

# A longer list of datastores would hide the rest of an error's message.
MOST_REASONS_SHOWN = 10


class Final(exception.MetadataCopyFailure):
    """An error that an attempt on another pool cannot cure.

    Cinder sends a volume that could not be created to the next pool, unless
    the error is of one of the classes that its flow lists (cinder.volume.
    flows.manager.create_volume). This base is one of them, and the one that
    no other code of Cinder's looks for.
    """


class InvalidSettings(exception.InvalidInput):
    """An option cannot work; raised while the driver sets up, never later."""

    def __init__(self, option: str, problem: str, remedy: str) -> None:
        self.option = option
        super().__init__(reason=f'{option}: {problem}; {remedy}')


class InvalidExtraSpec(exception.InvalidVolumeType, Final):
    """A volume type carries an extra spec that means nothing."""

    def __init__(self, spec: str, value: object, remedy: str) -> None:
        self.spec = spec
        super().__init__(
            reason=f'extra spec {spec} has the value {value!r}; {remedy}')


class VolumeRefused(exception.InvalidVolume, Final):
    """A volume, or a change of one, that no backend of this kind can do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class EncryptionRefused(VolumeRefused):
    """Encryption by Cinder or Nova, which this driver cannot do."""

    def __init__(self, what: str, remedy: str = '') -> None:
        super().__init__(
            f'{what}; {remedy}vSphere encrypts disks by a storage policy: '
            'set vmware:storage_profile of a type without encryption to a '
            'policy like "VM Encryption Policy"')


class NoneComplies(VolumeRefused):
    """No datastore of the backend complies with a type's storage policy."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        super().__init__(
            f'no datastore of this backend complies with storage policy '
            f'{policy!r}, which vmware:storage_profile of the volume type '
            'names; have the policy match some of them, or name another')


class NoPlacement(vmdk_exceptions.NoValidDatastoreException):
    """No datastore can take the disk.

    ``reasons`` maps the name of every datastore considered to why it was
    refused.
    """

    def __init__(self, wanted: str, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        super().__init__(f'No datastore for {wanted}: '
                         f'{_shown(self.reasons)}.')


class UnknownPool(NoPlacement):
    """The pool in the volume's host is no datastore of this vCenter."""

    def __init__(self, pool: str, known: Mapping[str, str]) -> None:
        self.pool = pool
        self.reasons = dict(known)
        vmdk_exceptions.NoValidDatastoreException.__init__(
            self, f'Pool {pool!r} names no datastore of this vCenter (was it '
            f'renamed or removed?); datastores there: {_shown(self.reasons)}.')


class PromiseLost(NoPlacement):
    """The datastore is gone on which a volume's space was promised."""

    def __init__(self, volume_id: str, pool: str, place: str) -> None:
        self.pool = pool
        self.reasons = {}
        vmdk_exceptions.NoValidDatastoreException.__init__(
            self, f'The space of volume {volume_id}, which has no disk yet, '
            f'was promised on pool {pool!r} ({place}), which is gone; a '
            'datastore of that name is another one. Move the volume to '
            'another pool (cinder migrate), or delete it.')


class OutcomeUnknown(vmware_exceptions.VimConnectionException):
    """The reply to a call that changes something was lost.

    It may have been executed, or may still be. The caller checks its effect
    and then decides whether to repeat it.
    """

    def __init__(self, method: str, target: str | None, cause: Exception
                 ) -> None:
        self.method = method
        self.target = target
        about = f' of {target}' if target else ''
        super().__init__(
            f'{method}{about}: the vCenter did not answer to the end, so '
            'whether it was done is unknown; look before it is repeated',
            cause)


class PrivilegeMissing(vmware_exceptions.NoPermissionException):
    """The vCenter refused what its user has no privilege for (NoPermission).

    ``privilege`` is its id, and ``on`` the object on which it is missing.
    """

    def __init__(self, refused: str, privilege: str, on: str,
                 details: dict[str, str] | None = None) -> None:
        """Prepare the message.

        :param refused: the vCenter's message
        :param on: the object, as an operator knows it
        """
        self.privilege = privilege
        self.on = on
        super().__init__(
            f'{refused.strip().rstrip(".")}: the user lacks the privilege '
            f'{privilege or "(not named)"} on {on or "(not named)"}; give its '
            'role what docs/privileges.md lists.', details=details)


class TransferFailed(vmware_exceptions.ImageTransferException):
    """An upload or download failed; its data must not be used."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f'The transfer failed: {problem}; {remedy}')


class ConnectorRefused(exception.InvalidConnectorException):
    """A volume cannot be attached in this way without giving a password."""

    def __init__(self) -> None:
        super().__init__(
            "os-brick's vmdk connector would need the vCenter's password, "
            'which this backend does not give out; see '
            'vmdk_ext_connector_credentials')


class LockUnavailable(exception.LockCreationFailed):
    """A lock was not acquired, so the operation was not begun."""

    def __init__(self, name: str, cause: Exception | None) -> None:
        super().__init__(
            f'Lock {name} cannot be had ({cause or "it was refused"}); see '
            'that the service which [coordination] backend_url names runs '
            'and answers, and repeat the request')


class UnusableImage(exception.ImageUnacceptable):
    """The data of an image is not what its properties say, or not safe."""

    def __init__(self, image_id: str, reason: str) -> None:
        super().__init__(image_id=image_id, reason=reason)


class BackingLost(exception.VolumeBackendAPIException, Final):
    """Cinder knows that there was a disk, and the vCenter has none.

    Never treated as "nothing to do": the caller would believe that the data
    is safe, or deleted.
    """

    def __init__(self, what: str, identifier: str, last_known: str) -> None:
        self.identifier = identifier
        super().__init__(
            data=f'The vCenter has no backing for {what} {identifier} any '
            f'more; it was last known on {last_known or "an unknown pool"}. '
            'Look for its VM or disk there (it may have been removed from '
            'the inventory; then register it again) and give it back to the '
            'volume with cinder-vmdk-ext volume relink; nothing was '
            'changed.')


def shortened(names: Sequence[str]) -> str:
    """Names in quotes, the first ones if there are many."""
    text = ', '.join(repr(name) for name in names[:MOST_REASONS_SHOWN])
    left = len(names) - MOST_REASONS_SHOWN
    return f'{text} and {left} more' if left > 0 else text


def _shown(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return 'the vCenter has no datastores'
    shown = sorted(reasons.items())[:MOST_REASONS_SHOWN]
    text = '; '.join(f'{name}: {why}' for name, why in shown)
    left = len(reasons) - len(shown)
    return f'{text}; and {left} more' if left else text


class QuarantineRefused(exception.CinderException):
    """Something in quarantine stays there, as it is; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class RelinkRefused(exception.CinderException):
    """A volume is not given a disk, and nothing was changed; says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class StorageRefused(vmware_exceptions.VMwareDriverException):
    """A change of the vCenter's storage that was not begun, and why."""


class UnknownObject(StorageRefused):
    """A name that no object of the vCenter has, or that several have."""


class TaskLeft(vmware_exceptions.VMwareDriverException):
    """The wait for a task was broken off; the vCenter goes on with it."""

    def __init__(self, what: str, task: str, progress: int | None) -> None:
        at = '' if progress is None else f' at {progress} %'
        super().__init__(
            f'{what} was at work{at} when the wait was broken off, and goes '
            f'on in the vCenter as {task}; look what it did before it is '
            'repeated')
