# SPDX-License-Identifier: Apache-2.0
"""Checks requests with the XML schemas of a vCenter's services.

The schemas are not part of this project: they are read from outside it.
"""

import contextlib
import functools
import os
import shutil
import tarfile
import tempfile
import unittest
from unittest import mock

from lxml import etree

from cinder_vmdk_ext.vsphere import soap

ARCHIVE = os.path.normpath(os.path.join(
    os.path.dirname(__file__), '..', '..', '..', 'shared', 'fixtures',
    'wsdl91', 'wsdl-9.1.0.0.tar.gz'))
_XSD = '{http://www.w3.org/2001/XMLSchema}'
SERVICES = {'urn:vim25': 'vim', 'urn:pbm': 'pbm'}


def need():
    """Skip the test where there are no schemas."""
    if not os.path.exists(ARCHIVE):
        raise unittest.SkipTest(
            f'the WSDL of a vCenter is not at {ARCHIVE}')


@functools.cache
def documents():
    """Schema documents by service and file name, as elements."""
    with tarfile.open(ARCHIVE) as archive:
        found = {}
        for member in archive.getmembers():
            if not member.name.endswith(('.xsd', '.wsdl')):
                continue
            root = etree.fromstring(archive.extractfile(member).read())
            inside = root.find(f'.//{_XSD}schema')
            if root.tag != f'{_XSD}schema' and inside is not None:
                root = inside  # of a WSDL
            service, _, name = member.name.partition('/')
            found[service, name] = root
        return found


@functools.cache
def schema(namespace):
    """What validates a service's messages.

    :param namespace: the service's
    """
    service = SERVICES[namespace]
    folder = tempfile.mkdtemp(prefix='vsphere-schemas-')
    try:
        for (where, name), root in documents().items():
            # Of several imports of a namespace libxml2 follows the first,
            # and this one includes the others.
            for node in root.iterfind(f'{_XSD}import'):
                if node.get('namespace') == 'urn:vim25':
                    node.set('schemaLocation', 'vim-types.xsd')
            if where == service:
                etree.ElementTree(root).write(os.path.join(folder, name))
        return etree.XMLSchema(
            file=os.path.join(folder, f'{service}.wsdl'))
    finally:
        shutil.rmtree(folder)


def faults_of(message):
    """What a service's schema has against the request in a SOAP message."""
    request = etree.fromstring(message).find('{*}Body')[0]
    namespace = etree.QName(request).namespace
    found = schema(namespace)
    # On its own, as the schema knows it.
    alone = etree.fromstring(etree.tostring(request))
    return [] if found.validate(alone) else [
        f'{etree.QName(request).localname}: {each.message}'
        for each in found.error_log]


@contextlib.contextmanager
def witness():
    """Have every form of request that this process sends validated.

    Where there are no schemas, nothing is done.

    :raises AssertionError: at the end, if one was not valid
    """
    if not os.path.exists(ARCHIVE):
        yield
        return
    encode, seen, faults = soap.encode, set(), []

    def watched(method, this, arguments, headers=()):
        message = encode(method, this, arguments, headers)
        form = tuple(each.tag for each in etree.fromstring(message).iter())
        if form not in seen:
            seen.add(form)
            faults.extend(faults_of(message))
        return message
    with mock.patch.object(soap, 'encode', watched):
        yield
    if faults:
        raise AssertionError('requests that a vCenter refuses:\n'
                             + '\n'.join(sorted(set(faults))))
