# SPDX-License-Identifier: Apache-2.0
"""A retype that ended with the former type has failed; the user learns it."""

import time
import types
import unittest
from unittest import mock

from cinder_vmdk_ext import refusals
from cinder_vmdk_ext import volume_rows
from cinder_vmdk_ext.volumes import retype_messages


class RetypeMessagesTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.messages = retype_messages.RetypeMessages()
        self.messages.expect({'id': 'v', 'volume_type_id': 'old'},
                             ValueError())

    def settle(self, **fields):
        """The ids of volumes whose users are informed."""
        rows = [types.SimpleNamespace(id='v', project_id='p', **fields)
                ] if fields else []
        with mock.patch.object(volume_rows, 'volumes',
                               return_value=rows) as read, \
                mock.patch.object(refusals, 'inform') as inform:
            self.messages.settle()
        self.is_read = read.called
        return [call.args[0].id for call in inform.mock_calls]

    def test_the_end_with_the_former_type_is_a_failure(self):
        fields = {'volume_type_id': 'old'}
        self.assertEqual([], self.settle(status='retyping', **fields))
        self.assertEqual(['v'], self.settle(status='in-use', **fields))
        self.assertEqual([], self.settle(status='in-use', **fields))
        self.assertFalse(self.is_read)

    def test_the_end_with_another_type_is_none(self):
        self.assertEqual([], self.settle(status='available',
                                         volume_type_id='new'))
        self.settle()
        self.assertFalse(self.is_read)

    def test_a_volume_that_is_gone_is_forgotten(self):
        self.assertEqual([], self.settle())
        self.settle()
        self.assertFalse(self.is_read)

    def test_a_request_that_never_ends_is_forgotten_after_a_day(self):
        later = time.monotonic() + 86401
        with mock.patch.object(time, 'monotonic', return_value=later):
            self.assertEqual([], self.settle(status='retyping',
                                             volume_type_id='old'))
        self.settle()
        self.assertFalse(self.is_read)


if __name__ == '__main__':
    unittest.main()
