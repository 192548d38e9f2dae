# SPDX-License-Identifier: Apache-2.0
"""Replies of a vCenter, damaged: a clear error, or what was asked for.

Each question is asked once of the simulated vCenter, and what it answered is
then given again and again, cut off or changed, to the code that asked.
"""

import copy
import os
from unittest import mock

import hypothesis
from hypothesis import strategies
from lxml import etree
from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception

from cinder_vmdk_ext.tests.functional import backend_case

EXAMPLES = int(os.environ.get('VMDK_EXT_TEST_FUZZ_EXAMPLES', 12))
# What may be told to Cinder: the vCenter's errors, and Cinder's own.
CLEAR = (vmware_exceptions.VMwareDriverException, exception.CinderException)
NONSENSE = ('', ' ', 'x', '-1', '9' * 5000, 'NaN', '2026-13-45T99:00:00Z',
            'true', '[no] such', 'vm-0', '../..', '\u202e\U0001f4be', '<&>')
DRAW = strategies.data()


class Reply:
    """What urllib3 gives, with content of ours."""

    def __init__(self, status, content):
        self.status = status
        self.data = content

    def stream(self, size):
        for at in range(0, len(self.data), size):
            yield self.data[at:at + size]

    def release_conn(self):
        """Nothing to release."""

    close = release_conn


class FuzzedRepliesTestCase(backend_case.BackendCase):
    """One volume with a snapshot, and an instance."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def setUp(self):
        super().setUp()
        self.volume = self.create()
        self.snapshot(self.volume)
        self.backing = self.driver.volumeops.get_backing(
            self.volume.name, self.volume.id)
        # Nothing else is to ask meanwhile.
        self.driver._stream.stop()
        self.enterContext(mock.patch.object(self.driver.session, '_sleep'))

    def questions(self):
        ops, census = self.driver.volumeops, self.driver._census
        moref = self.backing.value
        return {
            'a VM': lambda: ops.examine(self.backing),
            'devices': lambda: ops.devices_of(self.backing),
            'snapshots': lambda: ops.snapshots(self.backing),
            'depth': lambda: ops.snapshot_depth(self.backing),
            'some VMs': lambda: ops.disks_of([moref]),
            'all VMs': lambda: [vars(ops.read_all_backings())],
            'inventory': self.driver._reader._reader.read,
            'all disks': census.disks,
            'all snapshots': census.snapshots,
        }

    def recorded(self, ask):
        """What a question is answered with, in order."""
        client = self.driver._client
        real, taken = client._post, []

        def post(*args, **kwargs):
            reply = real(*args, **kwargs)
            taken.append((reply.status, reply.data))
            return Reply(*taken[-1])
        with mock.patch.object(client, '_post', post):
            ask()
        return taken

    def given(self, ask, replies):
        """Ask, and answer with these."""
        left = iter(replies)

        def post(method, *args, **kwargs):
            try:
                return Reply(*next(left))
            except StopIteration:
                raise vmware_exceptions.VimConnectionException(
                    f'{method}: no more replies') from None
        with mock.patch.object(self.driver._client, '_post', post):
            return ask()

    def fuzz(self, damage):
        for name, ask in self.questions().items():
            replies = self.recorded(ask)
            with self.subTest(name):
                self.check(name, ask, replies, damage)

    def check(self, name, ask, replies, damage):
        @hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(DRAW)
        def run(data):
            at = data.draw(strategies.integers(0, len(replies) - 1))
            status, content = replies[at]
            damaged = list(replies)
            damaged[at] = status, damage(data.draw, content)
            try:
                self.given(ask, damaged)
            except CLEAR as error:
                assert str(error), f'{error!r} says nothing'
        run()

    def test_cut_off(self):
        self.fuzz(_cut_off)

    def test_bytes_changed(self):
        self.fuzz(_bytes_changed)

    def test_texts_changed(self):
        self.fuzz(_text_changed)

    def test_elements_lost_or_doubled(self):
        self.fuzz(_element_lost_or_doubled)

    def test_what_is_cut_off_is_never_taken_for_the_whole(self):
        for name, ask in self.questions().items():
            replies = self.recorded(ask)
            for at, (status, content) in enumerate(replies):
                if b'RetrievePropertiesEx' not in content:
                    continue
                for length in range(0, len(content.rstrip()),
                                    max(1, len(content) // 9)):
                    damaged = list(replies)
                    damaged[at] = status, content[:length]
                    with self.subTest(name, at=at, length=length):
                        self.assertRaises(
                            vmware_exceptions.VMwareDriverException,
                            self.given, ask, damaged)


def _cut_off(draw, content):
    return content[:draw(strategies.integers(0, len(content)))]


def _bytes_changed(draw, content):
    at = draw(strategies.integers(0, len(content)))
    other = draw(strategies.binary(max_size=4))
    return content[:at] + other + content[at + 2:]


def _elements(content):
    root = etree.fromstring(content)
    return root, [each for each in root.iter() if each is not root]


def _text_changed(draw, content):
    root, elements = _elements(content)
    leaves = [each for each in elements if not len(each)]
    leaf = draw(strategies.sampled_from(leaves or elements))
    leaf.text = draw(strategies.sampled_from(NONSENSE))
    return etree.tostring(root)


def _element_lost_or_doubled(draw, content):
    root, elements = _elements(content)
    element = draw(strategies.sampled_from(elements))
    parent = element.getparent()
    if draw(strategies.booleans()):
        parent.remove(element)
    else:
        parent.insert(parent.index(element), copy.deepcopy(element))
    return etree.tostring(root)
