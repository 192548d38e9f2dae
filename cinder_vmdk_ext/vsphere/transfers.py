# SPDX-License-Identifier: Apache-2.0
"""Uploads to and downloads from a vCenter's datastores and hosts.

Differences from oslo.vmware's transfers: the status of every transfer is
checked, every wait has an end, TLS is verified, paths are quoted, only the
vCenter gets the session's cookie, and a failed transfer leaves nothing behind.
"""

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from urllib import parse

from oslo_log import log as logging
from oslo_utils import netutils
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import rw_handles
from oslo_vmware import vim_util
import urllib3

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import retry
from cinder_vmdk_ext.vsphere import transport

LOG = logging.getLogger(__name__)

CONNECT_SECONDS = 60.0
# A server may write for some time before it answers an upload.
REPLY_SECONDS = 300.0
# The vCenter ends a lease after five minutes without a progress report.
PROGRESS_SECONDS = 60.0
_STREAM = 'application/x-vnd.vmware-streamVmdk'
_DONE = 100
_READ_BYTES = 65536
_END_OF_STREAM = bytes(512)


class Transfers:
    """Transfers with one vCenter, by its session."""

    def __init__(self, session: Any, host: str, port: int, *,
                 ca_file: str | None = None, insecure: bool = False,
                 timeouts_seconds: tuple[float, float] = (
                     CONNECT_SECONDS, REPLY_SECONDS),
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param ca_file: verifies the vCenter; None: the system's bundle"""
        self._session = session
        self._host = host
        self._port = port
        self._trust = transport.Trust(ca_file, insecure)
        self._timeouts_seconds = timeouts_seconds
        self._clock = clock

    # -- Files --------------------------------------------------------------

    def upload(self, datacenter: Any, datastore_name: str, path: str,
               chunks: Iterable[bytes], size_bytes: int) -> None:
        """Write a file on a datastore (PUT to the vCenter's ``/folder``).

        :param path: on the datastore
        :raises TransferFailed: the file was not written, or not completely
        """
        self._put('PUT', self.file_url(datacenter, datastore_name, path),
                  chunks, size_bytes)

    @contextlib.contextmanager
    def reading(self, datacenter: Any, datastore_name: str, path: str
                ) -> 'Iterator[tuple[int, Iterator[bytes]]]':
        """A file on a datastore (GET from the vCenter's ``/folder``).

        :returns: its size in bytes, and its data, which need not be read to
            the end
        :raises TransferFailed: it cannot be read, also in the middle
        """
        url = self.file_url(datacenter, datastore_name, path)
        with self._opened('GET', url) as reply:
            yield int(reply.headers.get('Content-Length', -1)), _data_of(
                reply, _bare(url))

    def file_url(self, datacenter: Any, datastore_name: str,
                 path: str) -> str:
        """The URL of a file on a datastore.

        :raises ValueError: the path leads out of the datastore
        """
        if '..' in path.split('/'):
            raise ValueError(f'{path!r} leads out of its folder')
        query = parse.urlencode(
            {'dcPath': self._path_of(datacenter), 'dsName': datastore_name},
            quote_via=parse.quote)
        return (f'https://{netutils.escape_ipv6(self._host)}:{self._port}'
                f'/folder/{parse.quote(path)}?{query}')

    def _path_of(self, datacenter: Any) -> str:
        # The datacenter's path in the vCenter, without the root folder.
        path = self._session.invoke_api(
            vim_util, 'get_inventory_path', self._session.vim, datacenter)
        return str(path).strip('/')

    # -- Disks --------------------------------------------------------------

    def import_disk(self, resource_pool: Any, folder: Any, spec: Any,
                    chunks: Iterable[bytes], size_bytes: int | None,
                    progress_bytes: int) -> Any:
        """Make a VM with a streamOptimized disk (ResourcePool.ImportVApp).

        :param spec: VirtualMachineImportSpec
        :param size_bytes: of the data; None: it ends with the chunks
        :param progress_bytes: the expected size, to report the progress
        :returns: the VM
        :raises TransferFailed: the VM was not made
        :raises VimException: the vCenter refuses it
        """
        with self._lease('ImportVApp', resource_pool, spec=spec,
                         folder=folder) as lease:
            url, thumbprint = self._disk_url(lease)
            self._put('POST', url, lease.reporting(chunks, progress_bytes),
                      size_bytes, thumbprint, {'Content-Type': _STREAM})
        return lease.info.entity

    @contextlib.contextmanager
    def export_disk(self, vm: Any, size_bytes: int,
                    method: str = 'ExportVm') -> 'Iterator[Download]':
        """A VM's disk as streamOptimized data (VirtualMachine.ExportVm).

        :param vm: a VM or a snapshot
        :param size_bytes: the expected size, to report the progress
        :param method: for a snapshot: ExportSnapshot
        :returns: a file that can be read once
        :raises TransferFailed: it cannot be read, also in the middle
        """
        with self._lease(method, vm, must_complete=False) as lease:
            url, thumbprint = self._disk_url(lease)
            with self._opened('GET', url, thumbprint) as reply:
                download = Download(
                    reply, _bare(url),
                    lambda count: lease.report(count, size_bytes))
                yield download
                download.check_read_to_the_end()

    @contextlib.contextmanager
    def _lease(self, method: str, entity: Any, must_complete: bool = True,
               **arguments: Any) -> 'Iterator[_Lease]':
        """A lease that is completed at the end, or aborted after an error.

        :param must_complete: whether the transfer fails if the lease cannot
            be completed; an export has succeeded once every byte is here
        """
        lease = _Lease(self._session, self._clock, self._session.invoke_api(
            self._session.vim, method, entity, **arguments))
        try:
            lease.wait()
            yield lease
            try:
                lease.complete()
            except exceptions.VMWARE_ERRORS as error:
                if must_complete:
                    raise
                LOG.warning('A lease was not completed after its transfer; '
                            'the vCenter ends it: %s', error)
        except BaseException:
            lease.abort()
            raise

    def _disk_url(self, lease: '_Lease') -> tuple[str, str | None]:
        url, thumbprint = rw_handles.VmdkHandle._find_vmdk_url(
            lease.info, self._host, self._port)
        return url, thumbprint

    # -- HTTP ---------------------------------------------------------------

    def _put(self, method: str, url: str, chunks: Iterable[bytes],
             size_bytes: int | None, thumbprint: str | None = None,
             headers: dict[str, str] | None = None) -> None:
        """:param size_bytes: None: send the data in chunks (RFC 9112)"""
        length = ({} if size_bytes is None
                  else {'Content-Length': str(size_bytes)})
        with self._opened(method, url, thumbprint, chunks,
                          (headers or {}) | length) as reply:
            reply.drain_conn()

    @contextlib.contextmanager
    def _opened(self, method: str, url: str, thumbprint: str | None = None,
                chunks: Iterable[bytes] | None = None,
                headers: dict[str, str] | None = None
                ) -> 'Iterator[urllib3.BaseHTTPResponse]':
        """The reply to a request that succeeded."""
        parts = parse.urlsplit(url)
        https = self._transport(parts, thumbprint)
        try:
            try:
                reply = https.request(
                    method, parts._replace(scheme='', netloc='').geturl(),
                    body=chunks, whole=False, headers=headers)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise exceptions.TransferFailed(
                    f'{method} {_bare(url)} broke off ({error})',
                    'see the log of that server') from error
            with contextlib.closing(reply):
                if not 200 <= reply.status < 300:
                    raise exceptions.TransferFailed(
                        f'{method} {_bare(url)} was answered with HTTP '
                        f'{reply.status} {reply.reason or ""}'.rstrip(),
                        'see the log of that server')
                yield reply
        finally:
            https.close()

    def _transport(self, parts: parse.SplitResult,
                   thumbprint: str | None) -> transport.Transport:
        if parts.scheme != 'https' or not parts.hostname:
            raise exceptions.TransferFailed(
                f'{_bare(parts.geturl())} is no HTTPS URL',
                'the vCenter gave it: see its configuration')
        found = transport.Transport(
            parts.hostname, parts.port or 443,
            # A host's own certificate, named by the verified vCenter.
            self._trust._replace(thumbprint=thumbprint), pool_size=1,
            timeouts_seconds=self._timeouts_seconds)
        # Only the vCenter gets the session; a host does not need it.
        if (parts.hostname, parts.port or 443) == (self._host.strip('[]'),
                                                   self._port):
            found.cookie = self._session.vim.get_http_cookie()
        return found


class _Lease:
    """An HttpNfcLease: the permission to transfer one VM's disks."""

    info: Any

    def __init__(self, session: Any, clock: Callable[[], float],
                 ref: Any) -> None:
        self._session = session
        self._clock = clock
        self._ref = ref
        self._reported_at = clock()

    def wait(self) -> None:
        """Wait until the vCenter is ready for the transfer."""
        self._session.wait_for_lease_ready(self._ref)
        self.info = self._read('info')

    def reporting(self, chunks: Iterable[bytes],
                  size_bytes: int) -> Iterator[bytes]:
        """Yield the same chunks, and report the progress to the vCenter."""
        count = 0
        for chunk in chunks:
            yield chunk
            count += len(chunk)
            self.report(count, size_bytes)

    def report(self, count: int, size_bytes: int) -> None:
        """Report progress at intervals to keep the lease alive.

        Calls HttpNfcLeaseProgress.
        """
        if self._clock() - self._reported_at < PROGRESS_SECONDS:
            return
        self._call('HttpNfcLeaseProgress',
                   percent=min(_DONE * count // max(size_bytes, 1), _DONE))
        self._reported_at = self._clock()

    def complete(self) -> None:
        """Keep what was transferred."""
        try:
            self._call('HttpNfcLeaseComplete')
        except exceptions.OutcomeUnknown:
            if not self._is_done():
                raise

    def _is_done(self) -> bool:
        try:
            return self._read('state') == 'done'
        except vmware_exceptions.ManagedObjectNotFoundException:
            # A lease that timed out would have stayed for minutes more.
            return True

    def abort(self) -> None:
        """Make the vCenter remove the transferred data; never raises."""
        try:
            self._call('HttpNfcLeaseAbort')
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('The lease %(lease)s of a transfer that failed was '
                        'not aborted; the vCenter ends it in some minutes: '
                        '%(error)s',
                        {'lease': self._ref.value,
                         'error': retry.in_one_line(error)})

    def _call(self, method: str, **arguments: Any) -> None:
        self._session.invoke_api(self._session.vim, method, self._ref,
                                 **arguments)

    def _read(self, path: str) -> Any:
        return self._session.invoke_api(
            vim_util, 'get_object_property', self._session.vim, self._ref,
            path)


class Download:
    """A file in transfer, which is read once from beginning to end."""

    def __init__(self, reply: 'urllib3.BaseHTTPResponse', name: str,
                 report: Callable[[int], None]) -> None:
        self._reply = reply
        self._name = name
        self._report = report
        self._tail = b''
        self._ended = False
        self.count_bytes = 0

    def read(self, size: int = 65536) -> bytes:
        """The next bytes; empty at the end.

        :raises TransferFailed: the transfer is cut off, or too slow
        """
        try:
            data = self._reply.read(size)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise exceptions.TransferFailed(
                f'the download of {self._name} broke off after '
                f'{self.count_bytes} bytes ({error})',
                'see the log of that server') from error
        if data:
            self.count_bytes += len(data)
            self._tail = (self._tail + data)[-len(_END_OF_STREAM):]
            self._report(self.count_bytes)
        elif size and not self._ended:
            self._check_end()
            self._ended = True
        return data

    def _check_end(self) -> None:
        # The length of the reply may be unknown, but a streamOptimized disk
        # always marks its end.
        if self._tail != _END_OF_STREAM:
            raise exceptions.TransferFailed(
                f'the download of {self._name} ends after '
                f'{self.count_bytes} bytes, before the end of the disk',
                'see the log of that server')

    def check_read_to_the_end(self) -> None:
        """:raises TransferFailed: the reader stopped before the end"""
        if not self._ended and self.read(1):
            raise exceptions.TransferFailed(
                f'of the download of {self._name} only the first '
                f'{self.count_bytes} bytes were taken',
                'look after the image service')

    def close(self) -> None:
        """Do nothing: the code that opened the source closes it."""

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data


def _data_of(reply: urllib3.BaseHTTPResponse, name: str) -> Iterator[bytes]:
    try:
        while data := reply.read(_READ_BYTES):
            yield data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise exceptions.TransferFailed(
            f'the download of {name} broke off ({error})',
            'see the log of that server') from error


def _bare(url: str) -> str:
    """A URL without its query, and without an NFC ticket in its path."""
    parts = parse.urlsplit(url)
    path = parts.path
    if path.startswith('/nfc/'):
        path = f'/nfc/.../{path.rpartition("/")[2]}'
    return f'{parts.scheme}://{parts.netloc}{parse.unquote(path)}'
