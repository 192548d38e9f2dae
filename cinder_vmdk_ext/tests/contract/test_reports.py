# SPDX-License-Identifier: Apache-2.0
"""Each hook that can fail reports it by one ERROR line, and to the user."""

import unittest

from cinder.message import message_field

from cinder_vmdk_ext import driver
from cinder_vmdk_ext import refusals

# Hooks without a user message of ours, by who informs the user, or why none
# does.
CINDER_DOES = 'Cinder creates a message'
THE_API_ANSWERS = 'the API call waits for the hook and answers with its error'
NO_ACTION = "Cinder's list has no action that is like it"
PART_BY_PART = 'each volume or snapshot of the group has a message'
WITHOUT_MESSAGE = {
    'extend_volume': CINDER_DOES, 'create_snapshot': CINDER_DOES,
    'delete_snapshot': CINDER_DOES, 'unmanage_snapshot': CINDER_DOES,
    'get_backup_device': CINDER_DOES,
    'accept_transfer': THE_API_ANSWERS, 'validate_connector': THE_API_ANSWERS,
    'get_manageable_volumes': THE_API_ANSWERS,
    'get_manageable_snapshots': THE_API_ANSWERS,
    'delete_volume': NO_ACTION, 'revert_to_snapshot': NO_ACTION,
    'delete_group': NO_ACTION, 'migrate_volume': NO_ACTION,
    'put_migrated': NO_ACTION,
    'create_group_snapshot': PART_BY_PART,
    'delete_group_snapshot': PART_BY_PART,
    'create_group_from_src': PART_BY_PART,
    'settle_detached': 'a part of terminate_connection',
    'update_provider_info': 'no user has asked for it'}


class ReportsTestCase(unittest.TestCase):

    def test_each_hook_informs_the_user_unless_a_reason_is_known(self):
        """That each is a hook, and so writes the line: rule 7."""
        found = {name: method.hook for name, method
                 in vars(driver.VmdkExtDriver).items()
                 if hasattr(method, 'hook')}
        self.assertEqual(set(WITHOUT_MESSAGE), {
            name for name, hook in found.items() if hook.message is None})

    def test_cinders_list_has_no_action_like_those(self):
        """If this fails, Cinder has a new action: use it."""
        for _number, text in message_field.Action.ALL:
            for word in ('delete volume', 'revert', 'migrat', 'retype',
                         'group'):
                self.assertNotIn(word, str(text).lower())

    def test_an_action_of_our_own_would_say_nothing(self):
        self.assertEqual('unknown action',
                         message_field.translate_action('DELETE'))

    def test_each_message_is_of_cinders_list(self):
        made = [found for found in vars(refusals).values()
                if isinstance(found, refusals.Message)]
        self.assertLess(10, len(made))
        for each in made:
            self.assertIn(each.action, message_field.Action.ALL)
            self.assertIn(each.detail, message_field.Detail.ALL)


if __name__ == '__main__':
    unittest.main()
