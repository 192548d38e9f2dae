# SPDX-License-Identifier: Apache-2.0
"""When tags are read, and which tags are used without an answer."""

import json
import threading
import types
import unittest
from urllib import parse

from cinder_vmdk_ext.vsphere import accounts
from cinder_vmdk_ext.vsphere import tagging


class VCenter:
    """The tagging service at /api, as VMware's reference describes it."""

    url = 'https://vcenter'

    def __init__(self):
        self.tags = {'tag-1': ('gold', 'cat-1'), 'tag-2': ('drain', 'cat-2'),
                     'tag-3': ('drain', 'cat-1')}
        self.categories = {'cat-1': 'tier', 'cat-2': 'state'}
        self.attached = {
            'tag-2': [{'type': 'Datastore', 'id': 'datastore-1'},
                      {'type': 'VirtualMachine', 'id': 'vm-1'}],
            'tag-3': [{'type': 'Datastore', 'id': 'datastore-3'}]}
        self.asked = []
        self.sessions = set()
        self.logins = 0
        self.down = self.refusing = self.old = False
        self.garbage = None

    def request(self, method, path, *, body=None, headers=None):
        if self.down:
            raise OSError('refused')
        split = parse.urlsplit(path)
        self.asked.append(f'{method} {split.path}')
        if self.garbage is not None:
            return types.SimpleNamespace(status=200, data=self.garbage)
        status, found = self.answer(method, headers, split.path, split.query)
        if self.old and status < 300:
            found = {'value': found}
        return types.SimpleNamespace(status=status,
                                     data=json.dumps(found).encode())

    def answer(self, method, headers, path, query):
        prefix = '/rest/com/vmware/' if self.old else '/api/'
        if not path.startswith(prefix):
            return 404, None
        path = path.removeprefix(prefix).replace('id:', '')
        query = query.removeprefix('~')
        if path in ('session', 'cis/session'):
            return self.session(method, headers)
        if headers.get('vmware-api-session-id') not in self.sessions:
            return 401, None
        what, _, identifier = path.removeprefix(
            'cis/tagging/').partition('/')
        if what == 'tag' and not identifier:
            return 200, list(self.tags)
        if what == 'category':
            return 200, {'id': identifier, 'name': self.categories[identifier]}
        if identifier not in self.tags:
            return 404, None
        if what == 'tag':
            name, category = self.tags[identifier]
            return 200, {'id': identifier, 'name': name,
                         'category_id': category}
        if (what, query) == ('tag-association',
                             'action=list-attached-objects'):
            return 200, self.attached.get(identifier, [])
        return 400, None

    def session(self, method, headers):
        if method == 'DELETE':
            self.sessions.remove(headers['vmware-api-session-id'])
            return 204, None
        self.logins += 1
        if self.refusing:
            return 401, None
        assert headers['Authorization'].startswith('Basic ')
        self.sessions.add(f'session-{self.logins}')
        return 201, f'session-{self.logins}'

    def close(self):
        pass


class TaggedTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.vcenter = VCenter()
        self.now = 1000.0
        self.account = accounts.Account(lambda: self.now)

    def tagged(self, name):
        return tagging.Tagged(
            tagging.Service(self.vcenter, 'user', 'sécret ключ',
                            self.account), name, lambda: self.now)

    def asked_by(self, tagged, seconds=tagging.KEEP_SECONDS):
        self.now += seconds
        before = len(self.vcenter.asked)
        tagged.datastores()
        return self.vcenter.asked[before:]

    def test_the_datastores_of_a_tag_and_nothing_else(self):
        for self.vcenter.old in (False, True):
            self.assertEqual({'datastore-1'},
                             self.tagged('drain').datastores())

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
        self.assertNotIn('cret', ''.join(logs.output))

    def test_one_request_a_minute_however_many_tags_there_are(self):
        self.vcenter.tags |= {f'tag-{n}': (f'other {n}', 'cat-1')
                              for n in range(10, 510)}
        tagged = self.tagged('state:drain')
        tagged.datastores()
        self.assertEqual([], self.asked_by(tagged, tagging.KEEP_SECONDS - 1))
        for _ in range(10):
            self.assertEqual(
                ['POST /api/cis/tagging/tag-association/tag-2'],
                self.asked_by(tagged))
        self.assertEqual(1, self.vcenter.logins)

    def test_a_tag_that_is_missing_takes_one_request_a_minute_too(self):
        tagged = self.tagged('silver')
        with self.assertLogs(tagging.__name__, 'WARNING'):
            tagged.datastores()
        self.assertEqual(['GET /api/cis/tagging/tag'], self.asked_by(tagged))
        self.vcenter.tags['tag-4'] = 'silver', 'cat-1'
        self.vcenter.attached['tag-4'] = [{'type': 'Datastore', 'id': 'x'}]
        self.asked_by(tagged)
        self.assertEqual({'x'}, tagged.datastores())

    def test_a_tag_that_was_made_anew_is_found(self):
        tagged = self.tagged('drain')
        tagged.datastores()
        del self.vcenter.tags['tag-2']
        self.asked_by(tagged)
        self.assertEqual({'datastore-3'}, tagged.datastores())

    def test_a_tag_that_was_renamed_is_noticed_within_an_hour(self):
        tagged = self.tagged('drain')
        tagged.datastores()
        self.vcenter.tags['tag-2'] = 'other', 'cat-2'
        self.asked_by(tagged, tagging.NAMES_SECONDS)
        self.assertEqual({'datastore-3'}, tagged.datastores())

    def test_a_session_that_ended_is_replaced(self):
        tagged = self.tagged('drain')
        tagged.datastores()
        self.vcenter.sessions.clear()
        self.vcenter.attached['tag-2'] = []
        self.asked_by(tagged)
        self.assertEqual(frozenset(), tagged.datastores())
        self.assertEqual(2, self.vcenter.logins)

    def test_the_session_ends_with_it(self):
        tagged = self.tagged('drain')
        tagged.datastores()
        self.assertEqual({'session-1'}, self.vcenter.sessions)
        tagged.close()
        self.assertEqual(set(), self.vcenter.sessions)
        self.vcenter.down = True
        tagged.close()

    def test_a_refused_password_is_tried_more_and_more_seldom(self):
        self.vcenter.refusing = True
        tagged = self.tagged('drain')
        with self.assertLogs(tagging.__name__, 'WARNING') as logs:
            for _ in range(60):  # minutes
                self.asked_by(tagged)
        self.assertEqual(5, self.vcenter.logins)
        self.assertEqual(1, len(logs.records))
        self.vcenter.refusing = False
        self.asked_by(tagged, accounts.LONGEST_PAUSE_SECONDS)
        self.assertEqual({'datastore-1'}, tagged.datastores())

    def test_a_password_that_soap_was_refused_is_not_tried_here(self):
        self.account.refuse(ValueError('InvalidLogin'))
        with self.assertLogs(tagging.__name__, 'WARNING'):
            self.tagged('drain').datastores()
        self.assertEqual(0, self.vcenter.logins)

    def test_what_was_known_goes_on_to_hold_while_it_does_not_answer(self):
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

    def test_a_malformed_answer_counts_as_one_that_did_not_come(self):
        for garbage in (b'', b'{}', b'{', b'[{}]', b'7', b'\xff'):
            tagged = self.tagged('drain')
            tagged.datastores()
            self.vcenter.garbage = garbage
            self.now += 100
            with self.assertLogs(tagging.__name__, 'WARNING'):
                self.assertEqual({'datastore-1'}, tagged.datastores())
            self.vcenter.garbage = None

    def test_of_many_threads_one_asks(self):
        tagged = self.tagged('drain')
        threads = [threading.Thread(target=tagged.datastores)
                   for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(1, sum(
            'tag-association' in each for each in self.vcenter.asked))


if __name__ == '__main__':
    unittest.main()
