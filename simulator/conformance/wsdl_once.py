# SPDX-License-Identifier: Apache-2.0
"""Has a process read an equal WSDL once for all clients of oslo.vmware, not once for each simulated vCenter.

suds needs seconds of processor time for the WSDL of a vCenter. It keeps what it has read by the address, and each simulated vCenter
has another one.
"""

import contextlib
import functools
import hashlib
from unittest import mock
from urllib import parse

from suds import client
from suds import reader
from suds import servicedefinition
from suds import store
from suds import transport

# Path and digest of a WSDL -> what was read of it.
_known = {}
_read = reader.DefinitionsReader.open
# What a client prints of a service; to list its methods takes a third of the time.
_described = functools.cache(servicedefinition.ServiceDefinition)


@contextlib.contextmanager
def shared():
    """In this block, clients share what was read of WSDLs that differ in the address alone. Each is fetched all the same."""
    with (mock.patch.object(reader.DefinitionsReader, 'open', _open),
          mock.patch.object(client, 'ServiceDefinition', _described)):
        yield


def _open(self, url):
    """See suds; a client says itself which address it calls, since oslo.vmware sets suds' option `location`."""
    file = self.options.transport.open(transport.Request(url))
    try:
        text = file.read()
    finally:
        file.close()
    address = parse.urlsplit(url)
    key = address.path, hashlib.sha256(text.replace(address.netloc.encode(), b'') if address.netloc else text).digest()
    if key not in _known:
        fetched = store.DocumentStore({url.partition('://')[2]: text})
        before, self.options.documentStore = self.options.documentStore, fetched
        try:
            _known[key] = _read(self, url)
        finally:
            self.options.documentStore = before
    wsdl = _known[key]
    # As suds does with a WSDL that it has kept.
    for each in (wsdl, *(one.imported for one in wsdl.imports)):
        each.options = self.options
    return wsdl
