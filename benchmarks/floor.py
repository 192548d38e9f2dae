# SPDX-License-Identifier: Apache-2.0
"""The least that a first view can cost: its replies through TLS and lxml.

A part of the worker. It has the vCenter report what the driver's first view
consists of once more, in the same replies, to a collector of its own. Each
reply is read over HTTPS, in the same slices, and parsed into a tree; nothing
is done with it.
"""

import statistics
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from lxml import etree

from cinder_vmdk_ext.backings import members
from cinder_vmdk_ext.inventory import reader
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

REPEATS = 3
METHOD = 'WaitForUpdatesEx'


class Cost(NamedTuple):
    """CPU time, and bytes of the replies."""

    cpu_ms: float
    bytes: int


class Floor:
    """Reads what a first view consists of, with one session."""

    def __init__(self, session: Any, client: soap.Client) -> None:
        self._content = session.vim.service_content
        self._client = client

    def inventory(self) -> Cost:
        """Datastores, hosts, clusters: what a report needs."""
        return self._measure(self._inventory)

    def all(self) -> Cost:
        """These, the folders, and the survey of all VMs."""
        return self._measure(lambda views: [
            *self._inventory(views), *self._machines(views)])

    def _inventory(self, views: list[references.Ref]) -> Iterator[soap.Typed]:
        view = self._view(views, reader.PATHS)
        yield collector.view_filter(
            view, reader.PATHS,
            collector.named(self._content, reader.MANAGERS))

    def _machines(self, views: list[references.Ref]) -> Iterator[soap.Typed]:
        for paths in (members.FOLDER_PATHS, members.SURVEY_PATHS):
            view = self._view(views, paths)
            yield collector.view_filter(view, paths, {view: ('type',)})

    def _view(self, views: list[references.Ref], kinds: Iterable[str]
              ) -> references.Ref:
        views.append(collector.container_view(
            self._client, self._content, kinds))
        return views[-1]

    def _measure(self, specs: Callable[
            [list[references.Ref]], Iterable[soap.Typed]]) -> Cost:
        """The median of several times."""
        views: list[references.Ref] = []
        made = soap.ref(self._client.call(
            'CreatePropertyCollector', self._content.propertyCollector)[0])
        try:
            for spec in specs(views):
                self._client.call('CreateFilter', made, {
                    'spec': spec, 'partialUpdates': False})
            costs = [self._read(made) for _ in range(REPEATS)]
        finally:
            self._client.call('DestroyPropertyCollector', made)
            for view in views:
                collector.destroy_view(self._client, view)
        return Cost(statistics.median(each.cpu_ms for each in costs),
                    costs[0].bytes)

    def _read(self, made: references.Ref) -> Cost:
        """All that the filters select, from the beginning."""
        cpu, size, version = 0.0, 0, ''
        while True:
            body = soap.encode(METHOD, made, {
                'version': version,
                'options': soap.Typed('', {'maxWaitSeconds': 20})})
            begun = time.process_time()
            reply = self._client.https.request(
                'POST', '/sdk', body=body, whole=False,
                headers={'Content-Type': 'text/xml; charset=utf-8'})
            parser = etree.XMLParser(huge_tree=True)
            for piece in reply.stream(soap.SLICE_BYTES):
                parser.feed(piece)
                size += len(piece)
            root = parser.close()
            reply.release_conn()
            cpu += time.process_time() - begun
            returned = root[0][0][0]
            version = returned.findtext(soap.tag('version'))
            if returned.findtext(soap.tag('truncated')) != 'true':
                return Cost(cpu * 1000, size)
