# SPDX-License-Identifier: Apache-2.0
"""Cinder's API, in the cloud that the environment names (openstacksdk).

Only Cinder makes and deletes records of volumes: a command that needs this
asks its API, as ``cinder manage`` does.
"""

import contextlib
import functools
import re
from collections.abc import Iterator
from typing import Any

from cinder_vmdk_ext import exceptions

_REMEDY = 'install openstacksdk: pip install cinder-vmdk-ext[adopt]'

_NO_ANSWER = ('check that cinder-api and Keystone run, and the cloud that '
              'OS_CLOUD or OS_AUTH_URL names; then repeat the command')
# By the names of exceptions, of which openstacksdk and keystoneauth have many.
_UNANSWERED = re.compile('Connect|Discovery|Endpoint|unavailable')
_REMEDIES = {
    401: 'the token has expired or the password is wrong: log in again, and '
         'repeat the command',
    403: 'repeat the command as a user with the role admin',
    404: 'it may be gone by now: repeat the command',
    409: 'another operation is at work on it: repeat the command later',
    413: 'a quota or a limit of requests is reached',
    503: _NO_ANSWER}


class VolumeApi:
    """What the commands ask of Cinder's API."""

    def __init__(self, connection: Any, errors: tuple[type[Exception], ...]
                 ) -> None:
        """:param connection: an openstack.connection.Connection
        :param errors: in what its calls may end
        """
        self._connection = connection
        self._errors = errors

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise failure(error) from error

    def manage(self, **fields: Any) -> str:
        """Begin to manage a disk (POST /manageable_volumes).

        :returns: the volume's id
        :raises VolumeApiFailed: why the API refuses it
        """
        with self._asking():
            return str(self._connection.block_storage.manage_volume(
                **fields).id)

    def delete(self, volume_id: str) -> None:
        """Begin to delete a volume (DELETE /volumes/ID).

        :raises VolumeApiFailed: why the API refuses it
        """
        with self._asking():
            self._connection.block_storage.delete_volume(volume_id)

    def unmanage(self, volume_id: str) -> None:
        """Begin to remove a volume's record, not its disk (os-unmanage).

        :raises VolumeApiFailed: why the API refuses it
        """
        with self._asking():
            self._connection.block_storage.unmanage_volume(volume_id)

    def extend(self, volume_id: str, size_gib: int) -> None:
        """Begin to extend a volume (os-extend).

        :raises VolumeApiFailed: why the API refuses it
        """
        with self._asking():
            self._connection.block_storage.extend_volume(volume_id, size_gib)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Begin to delete a snapshot (DELETE /snapshots/ID).

        :raises VolumeApiFailed: why the API refuses it
        """
        with self._asking():
            self._connection.block_storage.delete_snapshot(snapshot_id)

    def reset(self, volume_id: str, status: str) -> None:
        """Set a volume's status in its record (os-reset_status).

        :raises VolumeApiFailed: why the API refuses it
        """
        with self._asking():
            self._connection.block_storage.reset_volume_status(
                volume_id, status=status)

    def status(self, volume_id: str) -> str:
        """A volume's status.

        :raises VolumeApiFailed: why the API does not give it
        """
        with self._asking():
            return str(self._connection.block_storage.get_volume(
                volume_id).status)


def failure(error: Exception) -> exceptions.VolumeApiFailed:
    """What an error of the API's client is for an operator: with a remedy."""
    status = getattr(error, 'status_code', None) or getattr(
        error, 'http_status', None)
    remedy = _REMEDIES.get(status or 0, _NO_ANSWER if status is None and (
        _UNANSWERED.search(f'{type(error).__name__}: {error}')) else '')
    return exceptions.VolumeApiFailed(
        exceptions.first_line(error).rstrip('. ')
        + (f'; {remedy}' if remedy else ''))


@functools.lru_cache
def connect(project: str = '') -> VolumeApi:
    """The API, as the user that OS_CLOUD or OS_AUTH_URL and so on name.

    :param project: name or id of the project to act in; '': the user's
    :raises VolumeApiFailed: no way to it
    """
    try:
        from keystoneauth1 import exceptions as keystone_exceptions
        import openstack
        from openstack import exceptions as sdk_exceptions
    except ImportError as error:
        raise exceptions.VolumeApiFailed(f'{error}; {_REMEDY}') from None
    errors = (sdk_exceptions.SDKException,
              keystone_exceptions.ClientException)
    try:
        found = openstack.connect(app_name='cinder-vmdk-ext')
        if project:
            found = found.connect_as_project(project)
        return VolumeApi(found, errors)
    except errors as error:
        raise failure(error) from error
