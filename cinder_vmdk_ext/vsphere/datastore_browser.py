# SPDX-License-Identifier: Apache-2.0
"""Searches datastores for files (HostDatastoreBrowser).

A search makes the hosts read folders, so only a few run at a time.
"""

import collections
import datetime
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import TypeVar

from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

# Searches that run at the same time.
AT_ONCE = 4
_DISKS = '*.vmdk'
_FOLDER_PATH = soap.tag('folderPath')
_FILE = soap.tag('file')
_PATH_TAG = soap.tag('path')
_CAPACITY_KB = soap.tag('capacityKb')
_MODIFICATION = soap.tag('modification')
_FILE_SIZE = soap.tag('fileSize')
_DISK_TYPE = soap.tag('diskType')
_THIN = soap.tag('thin')
_ENCRYPTION = soap.tag('encryption')


class Place(Protocol):
    """The facts about a datastore that a search needs."""

    @property
    def moref(self) -> str:
        """The reference's value, as in ``datastore-12``."""

    @property
    def name(self) -> str:
        """The name as the vCenter stores it, with ``%2f`` for a slash."""


Datastore = TypeVar('Datastore', bound=Place)


class Found(NamedTuple):
    """A file on a datastore, with the details that were asked for."""

    path: str  # within the datastore: 'folder/name.vmdk'
    size_bytes: int = 0  # space that the file takes
    modified_at: datetime.datetime | None = None
    # Only for a disk's descriptor; None for any other file.
    capacity_bytes: int | None = None
    disk_type: str = ''  # of its backing, as VirtualDiskFlatVer2BackingInfo
    thin: bool = False
    encrypted: bool = False


class Entry(NamedTuple):
    """A file or folder of any kind, on a datastore."""

    path: str  # within the datastore
    kind: str  # folder, disk, or file
    size_bytes: int
    modified_at: datetime.datetime | None


class DatastoreBrowser:
    """Searches datastores of one vCenter."""

    def __init__(self, session: Any, client: soap.Client,
                 read: Callable[..., dict[str, Any]]) -> None:
        """:param read: reads properties of an object, by their paths"""
        self._session = session
        self._client = client
        self._read = read

    def files(self, datastores: Iterable[Datastore]
              ) -> Iterator[tuple[Datastore, Found]]:
        """All files ``*.vmdk``, with extents: their space and age.

        :raises VimException: why a datastore cannot be searched
        """
        return self._search(datastores, _details(
            fileType=False, fileSize=True, modification=True))

    def disks(self, datastores: Iterable[Datastore]
              ) -> Iterator[tuple[Datastore, Found]]:
        """All virtual disks, by their descriptors.

        Extents, and deltas whose parent is missing, have no capacity and are
        left out.

        :raises VimException: why a datastore cannot be searched
        """
        return ((datastore, file) for datastore, file
                in self._search(datastores, _disk_query())
                if file.capacity_bytes is not None)

    def folder(self, datastore: Datastore, path: str) -> list[Found]:
        """The files ``*.vmdk`` of a folder; none if it does not exist.

        :raises VimException: why the datastore cannot be searched
        """
        try:
            return list(self._result(datastore, self._start(
                'SearchDatastore_Task', datastore, _details(
                    fileType=False, fileSize=True, modification=True),
                path)))
        except exceptions.FileNotFoundException:
            return []

    def listing(self, datastore: Place, path: str = '', pattern: str = '*',
                recursive: bool = False) -> list[Entry]:
        """Files and folders of any kind, by path.

        :param path: a folder; '': the whole datastore
        :param pattern: for the names: ``*`` any text, ``?`` one character
        :param recursive: with its subfolders
        :raises VimException: why the datastore cannot be searched; a
            FileNotFoundException if the folder does not exist
        """
        method = ('SearchDatastoreSubFolders_Task' if recursive
                  else 'SearchDatastore_Task')
        task = self._start(method, datastore, _details(
            fileType=True, fileSize=True, modification=True), path, pattern)
        self._session.wait_for_task(task)
        return sorted(_taken(
            self._read(task, 'info.result').get('info.result'),
            datastore.name, _entry))

    def disk(self, datastore: Datastore, path: str) -> Found | None:
        """The virtual disk at a path; None: no disk is there.

        :raises VimException: why the datastore cannot be searched
        """
        folder, _, name = path.rpartition('/')
        try:
            found = self._result(datastore, self._start(
                'SearchDatastore_Task', datastore, _disk_query(), folder,
                name))
        except exceptions.FileNotFoundException:
            return None
        return next((file for file in found if file.path == path
                     and file.capacity_bytes is not None), None)

    def _search(self, datastores: Iterable[Datastore],
                asked: dict[str, Any]) -> Iterator[tuple[Datastore, Found]]:
        running: collections.deque[tuple[Datastore, references.Ref]] = (
            collections.deque())
        for datastore in datastores:
            if len(running) >= AT_ONCE:
                yield from self._first_of(running)
            running.append((datastore, self._start(
                'SearchDatastoreSubFolders_Task', datastore, asked)))
        while running:
            yield from self._first_of(running)

    def _first_of(self, running: collections.deque[
            tuple[Datastore, references.Ref]]
                  ) -> Iterator[tuple[Datastore, Found]]:
        datastore, task = running.popleft()
        for file in self._result(datastore, task):
            yield datastore, file

    def _start(self, method: str, datastore: Place, asked: dict[str, Any],
               folder: str = '', pattern: str = _DISKS) -> references.Ref:
        browser = self._read(references.Ref('Datastore', datastore.moref),
                             'browser')['browser']
        reply = self._session.invoke_api(
            self._client, 'call', method, browser, {
                'datastorePath': f'[{datastore.name}] {folder}'.rstrip(),
                'searchSpec': soap.Typed('', asked | {
                    'matchPattern': pattern})})
        return soap.ref(reply[0])

    def _result(self, datastore: Place,
                task: references.Ref) -> Iterator[Found]:
        self._session.wait_for_task(task)
        return files_of(self._read(task, 'info.result').get('info.result'),
                        datastore.name)


def files_of(result: Any, datastore_name: str) -> Iterator[Found]:
    """The files in one or many HostDatastoreBrowserSearchResults.

    :raises VimConnectionException: it is malformed
    """
    return _taken(result, datastore_name, _file)


_Made = TypeVar('_Made')


def _taken(result: Any, datastore_name: str,
           make: Callable[[str, etree._Element], _Made]) -> Iterator[_Made]:
    """The result of a function of each file's folder path and element."""
    if not isinstance(result, etree._Element):
        return
    # A search of one folder returns one result, of a tree an array.
    alone = result.find(_FOLDER_PATH) is not None
    for folder in (result,) if alone else result:
        try:
            path = path_on(folder.findtext(_FOLDER_PATH) or '',
                           datastore_name).strip('/')
            made = [make(path, file) for file in folder.iterfind(_FILE)]
        except soap.MALFORMED as error:
            raise soap.malformed('HostDatastoreBrowserSearchResults',
                                 error) from error
        yield from made


def path_on(text: str, datastore_name: str) -> str:
    """The path in '[datastore] folder/name', without the datastore.

    A datastore's name may contain brackets. Their number is the same in both
    spellings of the name, with ``%2f`` and with a slash.

    :raises ValueError: the text is not a path on a datastore of that name
    """
    brackets = datastore_name.count(']') + 1
    parts = text.split(']', brackets)
    if len(parts) != brackets + 1:
        raise ValueError(f'{text!r} is not on datastore {datastore_name!r}')
    return parts[-1].removeprefix(' ')


def _file(folder: str, element: etree._Element) -> Found:
    name = element.findtext(_PATH_TAG) or ''
    capacity_kib = element.findtext(_CAPACITY_KB)
    modified = element.findtext(_MODIFICATION)
    return Found(
        f'{folder}/{name}' if folder else name,
        int(element.findtext(_FILE_SIZE) or 0),
        soap.SCALARS['dateTime'](modified) if modified else None,
        int(capacity_kib) * 1024 if capacity_kib is not None else None,
        (element.findtext(_DISK_TYPE) or '').rpartition('.')[2],
        element.findtext(_THIN) == 'true',
        element.find(_ENCRYPTION) is not None)


def _entry(folder: str, element: etree._Element) -> Entry:
    found = _file(folder, element)
    kind = {'FolderFileInfo': 'folder', 'VmDiskFileInfo': 'disk'}.get(
        soap.type_of(element), 'file')
    return Entry(found.path, kind, found.size_bytes, found.modified_at)


def _details(**wanted: bool) -> dict[str, Any]:
    return {'details': soap.Typed('', {
        'fileType': wanted['fileType'], 'fileSize': wanted['fileSize'],
        'modification': wanted['modification'], 'fileOwner': False})}


def _disk_query() -> dict[str, Any]:
    return {'query': soap.Typed('VmDiskFileQuery', {
        'details': soap.Typed('', {
            'diskType': True, 'capacityKb': True, 'hardwareVersion': False,
            'thin': True})})} | _details(
                fileType=True, fileSize=False, modification=False)
