# SPDX-License-Identifier: Apache-2.0
"""Tags: what is asked when, and what is known when nobody answers."""

import json
import unittest
from urllib import parse

import requests

from cinder_vmdk_ext.vsphere import tagging


class Vcenter(requests.adapters.BaseAdapter):
    """The tagging service at /api, as VMware's reference describes it."""

    def __init__(self):
        super().__init__()
        self.tags = {'tag-1': ('gold', 'cat-1'), 'tag-2': ('drain', 'cat-2'),
                     'tag-3': ('drain', 'cat-1')}
        self.categories = {'cat-1': 'tier', 'cat-2': 'state'}
        self.attached = {
            'tag-2': [{'type': 'Datastore', 'id': 'datastore-1'},
                      {'type': 'VirtualMachine', 'id': 'vm-1'}],
            'tag-3': [{'type': 'Datastore', 'id': 'datastore-3'}]}
        self.asked = []
        self.sessions = 0
        self.down = False

    def send(self, request, **kwargs):
        if self.down:
            raise requests.ConnectionError('refused')
        split = parse.urlsplit(request.url)
        self.asked.append(f'{request.method} {split.path}')
        answer = requests.Response()
        answer.status_code, body = self.answer(
            request, split.path.removeprefix('/api/'), split.query)
        answer._content = json.dumps(body).encode()
        return answer

    def answer(self, request, path, query):
        if path == 'session':
            self.sessions += 1 if request.method == 'POST' else -1
            return 201, 'a-session'
        if request.headers['vmware-api-session-id'] != 'a-session':
            return 401, None
        what, _, identifier = path.removeprefix(
            'cis/tagging/').partition('/')
        if what == 'tag' and not identifier:
            return 200, list(self.tags)
        if what == 'tag':
            name, category = self.tags[identifier]
            return 200, {'id': identifier, 'name': name,
                         'category_id': category}
        if what == 'category':
            return 200, {'id': identifier, 'name': self.categories[identifier]}
        if (what, query) == ('tag-association',
                             'action=list-attached-objects'):
            return 200, self.attached[identifier]
        return 404, None

    def close(self):
        pass


class TaggedTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.vcenter = Vcenter()
        self.now = 1000.0

    def connect(self):
        service = tagging.Service('vcenter', 443, 'user', 'secret', True)
        service._http.mount('https://', self.vcenter)
        return service

    def tagged(self, name):
        return tagging.Tagged(self.connect, name, lambda: self.now)

    def test_the_datastores_of_a_tag_and_nothing_else(self):
        self.assertEqual({'datastore-1'}, self.tagged('drain').datastores())

    def test_a_category_tells_namesakes_apart(self):
        self.assertEqual({'datastore-3'},
                         self.tagged('tier:drain').datastores())

    def test_no_such_tag_is_said_once(self):
        tagged = self.tagged('silver')
        with self.assertLogs(tagging.__name__, 'WARNING') as logs:
            self.assertEqual(frozenset(), tagged.datastores())
            self.now += 100
            self.assertEqual(frozenset(), tagged.datastores())
        self.assertEqual(1, len(logs.records))
        self.assertNotIn('secret', ''.join(logs.output))

    def test_it_is_asked_once_a_minute_in_sessions_that_end(self):
        tagged = self.tagged('drain')
        tagged.datastores()
        asked = len(self.vcenter.asked)
        self.now += tagging.KEEP_SECONDS - 1
        tagged.datastores()
        self.assertEqual(asked, len(self.vcenter.asked))
        self.now += 2
        tagged.datastores()
        self.assertGreater(len(self.vcenter.asked), asked)
        self.assertEqual(0, self.vcenter.sessions)

    def test_what_was_known_goes_on_to_hold_while_nobody_answers(self):
        tagged = self.tagged('drain')
        tagged.datastores()
        self.vcenter.down = True
        self.now += 100
        with self.assertLogs(tagging.__name__, 'WARNING'):
            self.assertEqual({'datastore-1'}, tagged.datastores())
        self.vcenter.down = False
        self.vcenter.attached['tag-2'] = []
        self.now += 100
        self.assertEqual(frozenset(), tagged.datastores())


if __name__ == '__main__':
    unittest.main()
