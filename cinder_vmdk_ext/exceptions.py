# SPDX-License-Identifier: Apache-2.0
"""Defines the plugin's errors, as a tree of classes::

    InvalidSettings(InvalidInput)           an option is missing or wrong
    Final(MetadataCopyFailure)              another pool cannot help
      InvalidExtraSpec(InvalidVolumeType)   a volume type's value is invalid
      InvalidQosSpec(InvalidVolumeType)     its QoS specs ask for what is not
      VolumeRefused(InvalidVolume)          no backend of this kind can do it
        EncryptionRefused                   Cinder's encryption is unsupported
        NoneComplies                        no datastore meets the policy
        NoneReserves                        no datastore reserves I/O
      BackingLost(VolumeBackendAPIException)  a volume's disk is missing
    UnknownPolicy(ProfileNotFoundException)  a type's policy is not there
    NoPlacement(NoValidDatastoreException)  no datastore fits; a reason each
      UnknownPool                           volume.host names no datastore
      PromiseLost                           the promised datastore is gone
    PromisesUnknown(CinderException)        Cinder's database does not answer
    OutcomeUnknown(VimConnectionException)  a change may have been executed
    PrivilegeMissing(NoPermissionException)  the user lacks a privilege
    TransferFailed(ImageTransferException)  an upload or download failed
    ConnectorRefused(InvalidConnectorException)  no host can use it so
    BackupRefused(CinderException)          a backup cannot be made or restored
    MigrationRefused(CinderException)       a volume cannot be copied elsewhere
    LockUnavailable(LockCreationFailed)     the lock service does not answer
    UnusableImage(ImageUnacceptable)        its data is not as described
    QuarantineRefused(CinderException)      it must stay in quarantine
    RelinkRefused(CinderException)          a volume cannot get that disk
    RepairRefused(CinderException)          a finding cannot be corrected
    VolumeApiFailed(CinderException)        Cinder's API refused a request
    StorageRefused(VMwareDriverException)   a change of storage was refused
      UnknownObject                         no object has that name, or many
    TaskLeft(VMwareDriverException)         a task runs without its caller

Each message is one sentence for an operator: the subject, its value and the
remedy. The base classes are those that handlers of upstream and Cinder expect.
"""

from collections.abc import Mapping
from collections.abc import Sequence

from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception
from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions

# The base class of all errors of calls to the vCenter.
VMWARE_ERRORS = vmware_exceptions.VMwareDriverException

# What is raised for a VM without a disk.
DISK_NOT_FOUND = vmdk_exceptions.VirtualDiskNotFoundException

# A longer list of datastores would hide the rest of an error's message.
MOST_REASONS_SHOWN = 10


class Final(exception.MetadataCopyFailure):
    """An error that an attempt on another pool cannot avoid.

    Cinder tries to create a volume on the next pool after an error, unless
    the error is of one of the classes that its flow lists (cinder.volume.
    flows.manager.create_volume). This base class is one of them, and no other
    code of Cinder handles it.
    """


class InvalidSettings(exception.InvalidInput):
    """An option is missing or wrong; raised only while the driver sets up."""

    def __init__(self, option: str, problem: str, remedy: str) -> None:
        self.option = option
        super().__init__(reason=f'{option}: {problem}; {remedy}')


class InvalidExtraSpec(exception.InvalidVolumeType, Final):
    """A volume type has an extra spec with an unknown key or value."""

    def __init__(self, spec: str, value: object, remedy: str) -> None:
        self.spec = spec
        super().__init__(
            reason=f'extra spec {spec} has the value {value!r}; {remedy}')


class InvalidQosSpec(exception.InvalidVolumeType, Final):
    """The QoS specs of a volume type ask for what vSphere does not have."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        super().__init__(reason=f'QoS specs {name}: {problem}; {remedy}')


class VolumeRefused(exception.InvalidVolume, Final):
    """No backend of this kind can create or change a volume like this."""

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
            'names; change the policy so that some comply, or name another')


class NoneReserves(VolumeRefused):
    """No datastore of the backend can reserve what a type's QoS specs ask."""

    def __init__(self, reservation: str, policy: str | None = None) -> None:
        """:param policy: the storage policy that it must comply with too"""
        among = (f' that complies with storage policy {policy!r}' if policy
                 else '')
        super().__init__(
            f'no datastore of this backend{among} can have {reservation}, '
            'which disk_io_reservation of the QoS specs asks for; enable '
            'Storage I/O Control with reservations on some, or remove the '
            'key')


class UnknownPolicy(vmdk_exceptions.ProfileNotFoundException):
    """The vCenter has no storage policy of the name that a type gives."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        super().__init__(
            f'The vCenter has no storage policy {policy!r} (was it renamed or '
            'removed?); retype the volume, or set vmware:storage_profile of '
            'its type to a policy that exists.')


class NoPlacement(vmdk_exceptions.NoValidDatastoreException):
    """No datastore can take the disk.

    ``reasons`` maps the name of every datastore considered to the reason why
    it was refused.
    """

    def __init__(self, wanted: str, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        super().__init__(f'No datastore for {wanted}: '
                         f'{_shown(self.reasons)}.')


class UnknownPool(NoPlacement):
    """The pool in the volume's host names no datastore of this vCenter."""

    def __init__(self, pool: str, known: Mapping[str, str]) -> None:
        self.pool = pool
        self.reasons = dict(known)
        vmdk_exceptions.NoValidDatastoreException.__init__(
            self, f'Pool {pool!r} names no datastore of this vCenter (was it '
            f'renamed or removed?); datastores there: {_shown(self.reasons)}.')


class PromiseLost(NoPlacement):
    """The datastore on which a volume's space was promised is gone."""

    def __init__(self, volume_id: str, pool: str, place: str) -> None:
        self.pool = pool
        self.reasons = {}
        vmdk_exceptions.NoValidDatastoreException.__init__(
            self, f'The space of volume {volume_id}, which has no disk yet, '
            f'was promised on pool {pool!r} ({place}), which is gone; a '
            'datastore of that name is another one. Move the volume to '
            'another pool (cinder migrate), or delete it.')


class PromisesUnknown(exception.CinderException):
    """The space promised to volumes without a disk was not read for long."""

    def __init__(self, age_seconds: float, cause: Exception | None) -> None:
        """:param cause: the last error; None: there was no reply"""
        why = first_line(cause) if cause else 'it does not answer'
        super().__init__(
            'The space that is promised to volumes without a disk is unknown: '
            f"it was last read from Cinder's database {age_seconds:.0f} s ago "
            f'({why}); check that the database answers cinder-volume')


class OutcomeUnknown(vmware_exceptions.VimConnectionException):
    """The reply to a call that changes something was lost.

    The vCenter may have executed the call, or may still execute it. The
    caller must check the call's effect before it repeats the call.
    """

    def __init__(self, method: str, target: str | None, cause: Exception
                 ) -> None:
        self.method = method
        self.target = target
        about = f' of {target}' if target else ''
        super().__init__(
            f'{method}{about}: the reply of the vCenter was lost, so whether '
            'it was done is unknown; check its effect before you repeat it',
            cause)


class PrivilegeMissing(vmware_exceptions.NoPermissionException):
    """The user lacks a privilege for a call (vSphere: NoPermission).

    ``privilege`` is the privilege's id, and ``on`` the object on which the
    user lacks it.
    """

    def __init__(self, refused: str, privilege: str, on: str,
                 details: dict[str, str] | None = None) -> None:
        """Prepare the message.

        :param refused: the vCenter's message
        :param on: the object, in words for an operator
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
    """A host that is no hypervisor asks for a volume, and cannot have it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class BackupRefused(exception.CinderException):
    """A volume cannot be backed up, or restored; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class MigrationRefused(exception.CinderException):
    """A volume cannot be copied to another backend; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class LockUnavailable(exception.LockCreationFailed):
    """A lock was not acquired, so the operation was not begun."""

    def __init__(self, name: str, cause: Exception | None) -> None:
        super().__init__(
            f'Lock {name} cannot be acquired ({cause or "it was refused"}); '
            'check that the service of [coordination] backend_url runs and '
            'answers, and repeat the request')


class UnusableImage(exception.ImageUnacceptable):
    """The data of an image differs from its properties, or is not safe."""

    def __init__(self, image_id: str, reason: str, remedy: str = '') -> None:
        """:param remedy: '': another image"""
        super().__init__(image_id=image_id, reason='%s; %s' % (
            reason, remedy or 'make the image anew and upload it again'))


class BackingLost(exception.VolumeBackendAPIException, Final):
    """The vCenter has no disk for a volume that had one.

    It must not be treated as "nothing to do": the caller would believe that
    the data is safe, or deleted.
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


def first_line(error: object) -> str:
    """What an error says, without the causes on its further lines."""
    return str(error).strip().partition('\n')[0]


def shortened(names: Sequence[str]) -> str:
    """Names in quotes: at most the first ten, and how many more."""
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
    """An object must stay in quarantine unchanged; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class RepairRefused(exception.CinderException):
    """A finding of the audit was not corrected; nothing was changed."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class RelinkRefused(exception.CinderException):
    """A volume was not given a disk; nothing was changed."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class VolumeApiFailed(exception.CinderException):
    """Cinder's API refused a request or could not be asked; says why."""

    def __init__(self, why: object) -> None:
        super().__init__(first_line(why))


class StorageRefused(vmware_exceptions.VMwareDriverException):
    """A change of the vCenter's storage was refused before it began."""


class UnknownObject(StorageRefused):
    """No object of the vCenter has this name, or several have it."""


class TaskLeft(vmware_exceptions.VMwareDriverException):
    """The wait for a task was interrupted; the task still runs."""

    def __init__(self, what: str, task: str, progress: int | None) -> None:
        at = '' if progress is None else f' at {progress} %'
        super().__init__(
            f'{what} was running{at} when the wait was interrupted, and '
            f'continues in the vCenter as {task}; check its effect before '
            'you repeat it')
