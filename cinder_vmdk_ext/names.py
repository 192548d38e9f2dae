# SPDX-License-Identifier: Apache-2.0
"""Makes and recognizes names of volumes, snapshots and temporary images."""

import hashlib
import re

_ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_SLOT = '\0'
# Upstream's folder for temporary images, on each datastore.
TEMPORARY_FOLDER = 'cinder_temp/'
_OF_DEPLOYMENT = re.compile(
    f'{TEMPORARY_FOLDER}vmdk-ext-([0-9a-f]{{12}})/')


class Names:
    """Names by one pair of Cinder's templates."""

    def __init__(self, volume_template: str = 'volume-%s',
                 snapshot_template: str = 'snapshot-%s') -> None:
        """:param volume_template: Cinder's volume_name_template
        :param snapshot_template: Cinder's snapshot_name_template
        """
        self._volume_template = volume_template
        volume = _pattern(volume_template)
        snapshot = _pattern(snapshot_template)
        self._volume = re.compile(volume)
        self._snapshot = re.compile(snapshot)
        # Names of the temporary VMs that operations create for a volume.
        self._temporary = re.compile(
            f'{volume}-[a-z]+(?:-(?:{_ID}|[0-9a-f]{{8}}(?:-image'
            '-[0-9a-f]{8})?))?')
        self._in_path = re.compile(f'(?:^|/)(?:{volume}|{snapshot})')

    def volume_name(self, volume_id: str) -> str:
        """The name of a volume."""
        return self._volume_template % volume_id

    def volume_id(self, name: str) -> str:
        """The id in a volume's name; '': it is not a volume's name."""
        return _found(self._volume.fullmatch(name))

    def snapshot_id(self, name: str) -> str:
        """The id in a snapshot's name; '': it is not a snapshot's name."""
        return _found(self._snapshot.fullmatch(name))

    def temporary_of(self, name: str) -> str:
        """The id of the volume of a temporary VM, or ''."""
        return _found(self._temporary.fullmatch(name))

    def is_volumes(self, name: str) -> bool:
        """Whether it is a volume's name, or that of a temporary VM of one."""
        # Both begin alike; almost all names of a vCenter begin otherwise.
        return bool(self._volume.match(name) and (
            self._volume.fullmatch(name) or self._temporary.fullmatch(name)))

    def in_path(self, path: str) -> str:
        """The id of the volume or snapshot that a path names, or ''.

        A vCenter adds a number to the folder of a second VM of the same name
        (``volume-..._1/``).
        """
        return _found(self._in_path.search(path))


def digest(deployment: str) -> str:
    """A short hash of a deployment's id, fit for any folder's name."""
    return hashlib.sha256(deployment.encode()).hexdigest()[:12]


def temporary_folder(deployment: str) -> str:
    """The folder of a deployment's temporary images, on each datastore.

    The folder's name identifies the deployment, because a file has no extra
    configuration that could.

    :param deployment: its id; '': it is unknown
    """
    return TEMPORARY_FOLDER + (f'vmdk-ext-{digest(deployment)}/'
                               if deployment else '')


def deployment_of(path: str) -> str:
    """The digest of the deployment that owns a temporary image, or ''."""
    return _found(_OF_DEPLOYMENT.match(path))


def _pattern(template: str) -> str:
    return re.escape(template % _SLOT).replace(re.escape(_SLOT), f'({_ID})')


def _found(match: re.Match[str] | None) -> str:
    return next(filter(None, match.groups()), '') if match else ''
