# SPDX-License-Identifier: Apache-2.0
"""Reports why a request failed: one log line and one user message.

Cinder logs a traceback for each error of a driver, and creates a user message
for some. This module logs the error's sentence, once, before them. A user
message cannot have text of its own: its action and detail must be from
Cinder's list (cinder.message.message_field), so the closest ones are used.

Of a generic migration (volumes/generic_migration.py) the user learns only if
it is part of a retype: other migrations are an administrator's, who has the
log. Its failures are those of the volume that is migrated, for Cinder deletes
the other one.
"""

from typing import NamedTuple

from oslo_context import context as oslo_context
from oslo_log import log as logging

from cinder import context as cinder_context
from cinder import exception
from cinder.message import api as message_api
from cinder.message import message_field

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import volume_rows

LOG = logging.getLogger(__name__)

#: Errors of requests that every other backend of this kind refuses as well.
ERRORS = (exceptions.Final, exception.ImageUnacceptable,
          exception.ImageTooBig, exception.ImageConversionNotAllowed,
          exception.InvalidSignatureImage,
          exception.ImageSignatureVerificationException)

_RETYPING = 'retyping'
_MIGRATING = ('migrating', 'completing')  # values of migration_status
#: Statuses of a volume that a generic migration copies.
_COPIED_IN = ('available', 'maintenance', _RETYPING)

_Field = tuple[str, str]


class Message(NamedTuple):
    """The user message for a failed request, if Cinder creates none."""

    action: _Field
    detail: _Field
    #: Errors for which Cinder creates no message itself.
    errors: tuple[type[Exception], ...] = ERRORS
    #: Whether it is for volumes alone that are being retyped.
    retyping: bool = False


_ACTION, _DETAIL = message_field.Action, message_field.Detail
# The details of errors that concern an image.
_OF_IMAGES = (
    (exception.ImageUnacceptable, _DETAIL.IMAGE_FORMAT_UNACCEPTABLE),
    (exception.ImageConversionNotAllowed, _DETAIL.IMAGE_FORMAT_UNACCEPTABLE),
    (exception.ImageTooBig, _DETAIL.NOT_ENOUGH_SPACE_FOR_IMAGE),
    (exception.InvalidSignatureImage, _DETAIL.SIGNATURE_VERIFICATION_FAILED),
    (exception.ImageSignatureVerificationException,
     _DETAIL.SIGNATURE_VERIFICATION_FAILED))
MAKE = Message(_ACTION.CREATE_VOLUME_FROM_BACKEND,
               _DETAIL.DRIVER_FAILED_CREATE)
# Cinder creates no message if it is an encrypted volume from an image, which
# it creates empty first. For other empty volumes Cinder creates one.
MAKE_EMPTY = MAKE._replace(errors=(exceptions.EncryptionRefused,))
FROM_IMAGE = Message(_ACTION.COPY_IMAGE_TO_VOLUME,
                     _DETAIL.DRIVER_FAILED_CREATE)
# Whatever fails while the data is copied, Cinder tries it nowhere else.
COPY_IMAGE = FROM_IMAGE._replace(errors=(Exception,))
REIMAGE = FROM_IMAGE._replace(action=_ACTION.REIMAGE_VOLUME,
                              errors=(Exception,))
# Cinder's own message says that the upload failed, but not that the format is
# the cause.
TO_IMAGE = Message(_ACTION.COPY_VOLUME_TO_IMAGE,
                   _DETAIL.FAILED_TO_UPLOAD_VOLUME,
                   errors=(exception.ImageUnacceptable,
                           exception.ImageConversionNotAllowed,
                           exception.ImageTooBig))
# Cinder creates none for these, whatever the error, and does not retry them.
MANAGE = MAKE._replace(errors=(Exception,))
ATTACH = Message(_ACTION.ATTACH_VOLUME, _DETAIL.ATTACH_ERROR,
                 errors=(Exception,))
# Cinder creates none, and has no action of that name. It is for errors alone
# that the migration, which Cinder may try next, ends with as well.
RETYPE = Message(_ACTION.SCHEDULE_ALLOCATE_VOLUME,
                 _DETAIL.NO_BACKEND_AVAILABLE)
RETYPE_ENDED = RETYPE._replace(errors=(Exception,))
MIGRATE = RETYPE_ENDED._replace(retyping=True)
RESTORE = Message(_ACTION.BACKUP_RESTORE, _DETAIL.BACKUP_RESTORE_ERROR,
                  errors=(Exception,))
# Cinder creates none for these either. Of the actions in its list, none is a
# detachment; that of an attachment's record is the closest.
DETACH = Message(_ACTION.UPDATE_ATTACHMENT, _DETAIL.DETACH_ERROR,
                 errors=(Exception,))
UNMANAGE = Message(_ACTION.UNMANAGE_VOLUME, _DETAIL.UNKNOWN_ERROR,
                   errors=(Exception,))
MANAGE_SNAPSHOT = Message(_ACTION.SNAPSHOT_CREATE,
                          _DETAIL.SNAPSHOT_CREATE_ERROR, errors=(Exception,))
# For a snapshot of its own Cinder creates one, but not for one of a group.
GROUP_SNAPSHOT = MANAGE_SNAPSHOT
DELETE_GROUP_SNAPSHOT = Message(_ACTION.SNAPSHOT_DELETE,
                                _DETAIL.SNAPSHOT_DELETE_ERROR,
                                errors=(Exception,))
GROUP_VOLUME = MANAGE


class About(NamedTuple):
    """What a request was about: a volume, a snapshot or a group."""

    kind: str
    id: str | None
    project_id: str | None
    previous_status: str | None
    status: str | None = None
    migration_status: str | None = None

    @property
    def source(self) -> str:
        """The volume that is migrated to this one; '': none is."""
        return str(self.migration_status or '').partition('target:')[2]


def report(what: str, about: About, error: Exception,
           message: Message | None) -> None:
    """Log one ERROR line and, if ``message`` is given, a user message.

    An error that passes several hooks is logged once, and the message is that
    of the first one that has any. Never raises.

    :param what: the hook's name in Cinder
    """
    if not getattr(error, 'vmdk_ext_reported', False):
        mark_reported(error)
        LOG.error('%(what)s of %(kind)s %(id)s %(how)s: %(why)s',
                  {'what': what, 'kind': about.kind,
                   'id': f'{about.id}, to which volume {about.source} is '
                   'migrated,' if about.source else about.id,
                   'how': 'was refused' if isinstance(error, ERRORS)
                   else 'failed', 'why': sentence(error)})
    if message is not None:
        inform(about, error, message)


def mark_reported(error: Exception) -> None:
    """Note that the log has an ERROR line about an error already."""
    error.vmdk_ext_reported = True  # type: ignore[attr-defined]


def inform(about: About, error: Exception, message: Message) -> None:
    """Create a user message, once for each error and object. Never raises."""
    if about.migration_status in _MIGRATING or about.source:
        of_migration = _of_migration(about, message)
        if of_migration is None:
            return
        about, message = of_migration
    if message.retyping and about.status != _RETYPING:
        return
    if message in (FROM_IMAGE, COPY_IMAGE) and about.previous_status:
        message = REIMAGE
        if isinstance(error, exception.ImageConversionNotAllowed):
            return  # Cinder creates this one
    if not about.project_id or not isinstance(error, message.errors):
        return
    informed = vars(error).setdefault('vmdk_ext_informed', set())
    if about.id in informed:
        return
    informed.add(about.id)
    current = oslo_context.get_current()
    # If it fails, it logs that and does not raise.
    message_api.API().create(
        cinder_context.RequestContext(
            project_id=about.project_id, is_admin=True, overwrite=False,
            request_id=current.request_id if current else None),
        message.action, resource_uuid=about.id,
        resource_type=(message_field.Resource.VOLUME_SNAPSHOT
                       if about.kind == 'snapshot'
                       else message_field.Resource.VOLUME),
        detail=next((detail for kind, detail in _OF_IMAGES
                     if isinstance(error, kind)), message.detail))


def _of_migration(about: About, message: Message
                  ) -> tuple[About, Message] | None:
    """Which message a failure has that may be a migration's; None: none."""
    if not about.source:
        # By its status: the volume is copied, or a user attaches it.
        if message is ATTACH and about.status in _COPIED_IN:
            message = MIGRATE
        return about, message
    if message not in (MAKE_EMPTY, MIGRATE):
        return None  # the call was the source's, which informs
    try:
        for row in volume_rows.volumes([about.source]):
            return About('volume', row.id, row.project_id, None,
                         row.status), MIGRATE
    except Exception as error:
        LOG.warning('Nobody was informed that the migration of volume '
                    '%(volume)s failed: %(error)s',
                    {'volume': about.source, 'error': error})
    return None


def sentence(error: Exception) -> str:
    """What an error says, on one line; its class, if it says nothing."""
    return ' '.join(str(error).split()) or type(error).__name__
