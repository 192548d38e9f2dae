# SPDX-License-Identifier: Apache-2.0
"""Names that Cinder's options give to volumes and snapshots, read back."""

import hashlib
import re

_ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_SLOT = '\0'
# Upstream's folder for temporary images, on each datastore.
TEMPORARY_FOLDER = 'cinder_temp/'
_OF_DEPLOYMENT = re.compile(
    f'{TEMPORARY_FOLDER}vmdk-ext-([0-9a-f]{{12}})/')


class Names:
    """What is matched by name, for one pair of Cinder's templates."""

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
        # What operations call VMs that are to become the volume's, or were.
        self._temporary = re.compile(
            f'{volume}-[a-z]+(?:-(?:{_ID}|[0-9a-f]{{8}}(?:-image'
            '-[0-9a-f]{8})?))?')
        self._in_path = re.compile(f'(?:^|/)(?:{volume}|{snapshot})')

    def volume_name(self, volume_id: str) -> str:
        """The name of a volume."""
        return self._volume_template % volume_id

    def volume_id(self, name: str) -> str:
        """The id in a volume's name; '' when it is no such name."""
        return _found(self._volume.fullmatch(name))

    def snapshot_id(self, name: str) -> str:
        """The id in a snapshot's name; '' when it is no such name."""
        return _found(self._snapshot.fullmatch(name))

    def temporary_of(self, name: str) -> str:
        """The id of the volume that a temporary VM was made for, or ''."""
        return _found(self._temporary.fullmatch(name))

    def in_path(self, path: str) -> str:
        """The id of the volume or snapshot that a path names, or ''.

        A vCenter numbers the folders of namesakes: ``volume-..._1/``.
        """
        return _found(self._in_path.search(path))


def digest(deployment: str) -> str:
    """A deployment's mark, short and of letters that any folder may have."""
    return hashlib.sha256(deployment.encode()).hexdigest()[:12]


def temporary_folder(deployment: str) -> str:
    """Where a deployment keeps temporary images, on each datastore.

    Bare files bear no mark, so their folder does.

    :param deployment: '': it is unknown
    """
    return TEMPORARY_FOLDER + (f'vmdk-ext-{digest(deployment)}/'
                               if deployment else '')


def deployment_of(path: str) -> str:
    """The digest of the deployment whose temporary image a path is, or ''."""
    return _found(_OF_DEPLOYMENT.match(path))


def _pattern(template: str) -> str:
    return re.escape(template % _SLOT).replace(re.escape(_SLOT), f'({_ID})')


def _found(match: re.Match[str] | None) -> str:
    return next(filter(None, match.groups()), '') if match else ''
