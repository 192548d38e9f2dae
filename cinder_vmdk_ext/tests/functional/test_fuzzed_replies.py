# SPDX-License-Identifier: Apache-2.0
"""A damaged reply of a vCenter gives a clear error, or the right result.

Each call is made once to the simulated vCenter. The calling code then gets its
reply many times, truncated or changed.
"""

import contextlib
import copy
import os
import re
import threading
from unittest import mock

import hypothesis
from hypothesis import strategies
from lxml import etree
from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception

from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.vsphere import storage_policies
from cinder_vmdk_ext.vsphere import transport
from cinder_vmdk_ext.vsphere import views

EXAMPLES = int(os.environ.get('VMDK_EXT_TEST_FUZZ_EXAMPLES', 12))
# What Cinder may receive: the vCenter's errors, and Cinder's own.
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
        # Nothing else is to ask meanwhile: no long poll, and no refresher.
        self.driver.backend._streams.stop()
        self.enterContext(mock.patch.object(self.driver.session, '_sleep'))
        # For a minute after a view was lost, a question of the session's
        # views may come before any other.
        self.enterContext(mock.patch.object(views.Views, 'destroy_lost'))

    def questions(self):
        ops, census = self.driver.volumeops, self.driver.backend.disk_scan()
        moref = self.backing.value
        return {
            'a VM': lambda: ops.examine(self.backing),
            'devices': lambda: ops.devices_of(self.backing),
            'snapshots': lambda: ops.snapshots(self.backing),
            'depth': lambda: ops.snapshot_depth(self.backing),
            'some VMs': lambda: ops.disks_of([moref]),
            'all VMs': lambda: [vars(ops.read_all_backings())],
            'inventory': self.driver.backend.inventory_source._reader.read,
            'all disks': census.disks,
            'all snapshots': census.snapshots,
        }

    def recorded(self, ask):
        """What a question is answered with, in order."""
        client = self.driver.backend.client
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
        with mock.patch.object(self.driver.backend.client, '_post', post):
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


GARBAGE = (
    lambda content: b'',
    lambda content: b'<html><body>Bad Gateway</body></html>',
    lambda content: content[:len(content) // 2],
    lambda content: re.sub(b'(Body[^>]*>).*(</[^>]*Body>)', rb'\1\2',
                           content, flags=re.DOTALL))


class GarbledRepliesTestCase(backend_case.BackendCase):
    """Of one call in an operation the reply is not to be understood.

    It was executed all the same. The operation finds that out or fails with
    a clear error; the same request again, or a delete, puts all right.
    """

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.object(self.driver.session, '_sleep'))

    @contextlib.contextmanager
    def garbled(self, path='/sdk', number=None, garble=None):
        """Counts this thread's calls to a path; one's reply is garbled."""
        request, calls = transport.Transport.request, []
        mine = threading.get_ident()

        def garbling(https, method, target, **options):
            reply = request(https, method, target, **options)
            if (target == path and options.get('whole', True)
                    and threading.get_ident() == mine):
                calls.append(options.get('body'))
                if len(calls) == number:
                    return Reply(reply.status, garble(reply.data))
            return reply
        with mock.patch.object(transport.Transport, 'request', garbling):
            yield calls

    def each(self, prepare, operate, check):
        """Every call of an operation, and all that may come for a reply.

        :param check: called with what was prepared, and the error or None
        """
        prepared = prepare()
        with self.garbled() as calls:
            operate(prepared)
        self.assertNotEqual([], calls)
        for number in range(1, len(calls) + 1):
            for garble in GARBAGE:
                prepared, error = prepare(), None
                with self.subTest(number=number,
                                  kind=GARBAGE.index(garble)):
                    with self.garbled(number=number, garble=garble):
                        try:
                            operate(prepared)
                        except CLEAR as caught:
                            error = caught
                            self.assertTrue(str(error))
                    check(prepared, error)

    def test_create(self):
        def check(volume, error):
            if error is None:
                self.assertEqual('LocalDS_1', self.truth(volume).datastore)
            self.driver.delete_volume(volume)
            self.assertIsNone(self.truth(volume))
        self.each(self.new_volume, self.driver.create_volume, check)
        self.assertEqual(1, len(self.shadow_vms()))

    def test_clone(self):
        source = self.create(content=b'cloned')
        before = self.checksum(source)

        def clone(volume):
            self.driver.create_cloned_volume(volume, source)

        def check(volume, error):
            if error is None:
                self.assertEqual(before, self.checksum(volume))
            self.driver.delete_volume(volume)
            self.assertIsNone(self.truth(volume))
        self.each(self.new_volume, clone, check)
        self.assertEqual(2, len(self.shadow_vms()))

    def test_extend(self):
        def extend(volume):
            self.driver.extend_volume(volume, 2)

        def check(volume, _error):
            extend(volume)
            self.assertEqual(2, self.truth(volume).size_gib)
            self.assertEqual(b'extended', self.read(volume, 8))
        self.each(lambda: self.create(content=b'extended'), extend, check)

    def test_delete(self):
        def check(volume, error):
            if error is not None:
                self.driver.delete_volume(volume)
            self.assertIsNone(self.truth(volume))
        self.each(self.create, self.driver.delete_volume, check)
        self.assertEqual([], sorted(self.shadow_vms()))

    def test_what_complies_is_not_learnt_from_garbage(self):
        name = 'VM Encryption Policy'
        self.make_driver(vmware_storage_profile=name)
        ask = storage_policies.PolicyDirectory(self.driver.session, 0.0)
        with self.garbled('/pbm') as calls:
            known = ask.compliant_datastores(name)
        self.assertEqual(4, len(known))
        for number in range(1, len(calls) + 1):
            for garble in GARBAGE:
                fresh = storage_policies.PolicyDirectory(
                    self.driver.session, 0.0)
                vars(self.driver.session.pbm).pop('service_content', None)
                with self.garbled('/pbm', number, garble):
                    try:
                        found = fresh.compliant_datastores(name)
                    except CLEAR as error:
                        self.assertTrue(str(error))
                    else:
                        self.assertEqual(known, found)
                self.assertEqual(known, fresh.compliant_datastores(name))


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
