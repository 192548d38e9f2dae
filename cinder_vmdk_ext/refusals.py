# SPDX-License-Identifier: Apache-2.0
"""Says why a request was refused: one line in the log, one user message.

Cinder writes a traceback for each error of a driver, and a user message for
some. The sentence that says what to do is written here, once. A user message
has no words of its own: its action and detail are chosen from Cinder's list
(cinder.message.message_field), and the nearest are used.
"""

from typing import Any
from typing import NamedTuple

from oslo_context import context as oslo_context
from oslo_log import log as logging

from cinder import context as cinder_context
from cinder import exception
from cinder.message import api as message_api
from cinder.message import message_field

from cinder_vmdk_ext import exceptions

LOG = logging.getLogger(__name__)

#: Errors by which a request is refused that is as wrong anywhere else.
ERRORS = (exceptions.Final, exception.ImageUnacceptable)

_Field = tuple[str, str]


class Message(NamedTuple):
    """Which user message a refused request gets, where Cinder makes none."""

    action: _Field
    detail: _Field
    #: If an image is what is refused.
    image_detail: _Field = message_field.Detail.IMAGE_FORMAT_UNACCEPTABLE
    #: For others Cinder makes one.
    errors: tuple[type[Exception], ...] = ERRORS


_ACTION, _DETAIL = message_field.Action, message_field.Detail
MAKE = Message(_ACTION.CREATE_VOLUME_FROM_BACKEND,
               _DETAIL.DRIVER_FAILED_CREATE)
# An encrypted volume of an image is created empty before anything else, and
# Cinder makes a message only for those that stay empty.
MAKE_EMPTY = MAKE._replace(errors=(exceptions.EncryptionRefused,))
FROM_IMAGE = Message(_ACTION.COPY_IMAGE_TO_VOLUME,
                     _DETAIL.DRIVER_FAILED_CREATE)
REIMAGE = FROM_IMAGE._replace(action=_ACTION.REIMAGE_VOLUME)
# Cinder's own says that the upload failed, and not that the format is why.
TO_IMAGE = Message(_ACTION.COPY_VOLUME_TO_IMAGE,
                   _DETAIL.FAILED_TO_UPLOAD_VOLUME,
                   errors=(exception.ImageUnacceptable,))
ATTACH = Message(_ACTION.ATTACH_VOLUME, _DETAIL.ATTACH_ERROR)


def tell(what: str, thing: Any, error: Exception,
         message: Message | None) -> None:
    """Write one ERROR line and, if there is one, a user message.

    An error that passes several hooks on its way up is written once. Never
    fails.

    :param what: the hook, as Cinder names it
    :param thing: the volume, or what the hook was given instead
    """
    if getattr(error, 'vmdk_ext_told', False):
        return
    error.vmdk_ext_told = True  # type: ignore[attr-defined]
    LOG.error('%(what)s of %(kind)s %(id)s was refused: %(why)s',
              {'what': what, 'kind': type(thing).__name__.lower(),
               'id': _field(thing, 'id'), 'why': error})
    if message is not None and isinstance(error, message.errors):
        _create_message(thing, error, message)


def _create_message(volume: Any, error: Exception, message: Message) -> None:
    project_id = _field(volume, 'project_id')
    if message == FROM_IMAGE and _field(volume, 'previous_status'):
        message = REIMAGE
    if not project_id:
        return
    current = oslo_context.get_current()
    # It writes to the log, and does not raise, when it fails.
    message_api.API().create(
        cinder_context.RequestContext(
            project_id=project_id, is_admin=True, overwrite=False,
            request_id=current.request_id if current else None),
        message.action, resource_uuid=_field(volume, 'id'),
        detail=message.image_detail
        if isinstance(error, exception.ImageUnacceptable)
        else message.detail)


def _field(thing: Any, name: str) -> Any:
    try:
        return thing[name]
    except (KeyError, TypeError):
        return None
