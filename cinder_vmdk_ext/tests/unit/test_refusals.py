# SPDX-License-Identifier: Apache-2.0
"""One line in the log for one refusal."""

import unittest
from unittest import mock

from cinder import exception
from cinder.message import message_field

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import refusals

VOLUME = refusals.About('volume', 'v', 'p', None)


class ReportTestCase(unittest.TestCase):

    def report(self, error, message=None, thing=None):
        """The lines, and the details of the user messages."""
        with mock.patch.object(refusals.message_api.API, 'create') as create, \
                mock.patch.object(refusals.LOG, 'error') as log:
            refusals.report('extend_volume', thing or VOLUME, error, message)
        return ([call.args[0] % call.args[1] for call in log.mock_calls],
                [call.kwargs['detail'] for call in create.mock_calls])

    def test_the_line_holds_the_hook_the_volume_and_the_sentence(self):
        lines, messages = self.report(exceptions.VolumeRefused('it is blue'))
        self.assertEqual(['extend_volume of volume v was refused: Invalid '
                          'volume: it is blue'], lines)
        self.assertEqual([], messages)

    def test_what_cinder_may_try_elsewhere_has_failed(self):
        lines, messages = self.report(ValueError(), refusals.MAKE)
        self.assertEqual(['extend_volume of volume v failed: ValueError'],
                         lines)
        self.assertEqual([], messages)

    def test_an_attachment_that_fails_has_a_message_whatever_the_error(self):
        self.assertEqual([message_field.Detail.ATTACH_ERROR],
                         self.report(ValueError('x'), refusals.ATTACH)[1])

    def test_a_retype_has_a_message_where_no_migration_can_help(self):
        self.assertEqual([message_field.Detail.NO_BACKEND_AVAILABLE],
                         self.report(exceptions.VolumeRefused('x'),
                                     refusals.RETYPE)[1])
        self.assertEqual([], self.report(ValueError('x'),
                                         refusals.RETYPE)[1])

    def test_an_error_that_passes_two_hooks_is_written_once(self):
        error = exceptions.VolumeRefused('it is blue')
        self.report(error, refusals.MAKE)
        self.assertEqual(([], []), self.report(error, refusals.MAKE))

    def test_the_outer_hook_has_the_message_if_the_inner_one_has_none(self):
        error = ValueError('x')
        self.assertEqual([], self.report(error)[1])
        self.assertEqual(([], [message_field.Detail.DETACH_ERROR]),
                         self.report(error, refusals.DETACH))

    def test_an_image_that_is_refused_has_a_message_of_its_own(self):
        self.assertEqual(
            [message_field.Detail.IMAGE_FORMAT_UNACCEPTABLE],
            self.report(exceptions.UnusableImage('i', 'it is cut off'),
                        refusals.FROM_IMAGE)[1])

    def test_what_stops_an_image_is_said_by_the_nearest_message(self):
        for error, detail in (
                (exception.ImageTooBig(image_id='i', reason='x'),
                 message_field.Detail.NOT_ENOUGH_SPACE_FOR_IMAGE),
                (exception.ImageConversionNotAllowed(image_id='i', reason=''),
                 message_field.Detail.IMAGE_FORMAT_UNACCEPTABLE),
                (exception.ImageSignatureVerificationException(reason='x'),
                 message_field.Detail.SIGNATURE_VERIFICATION_FAILED),
                (exception.InvalidSignatureImage(image_id='i'),
                 message_field.Detail.SIGNATURE_VERIFICATION_FAILED)):
            self.assertEqual([detail],
                             self.report(error, refusals.FROM_IMAGE)[1])

    def test_cinder_says_itself_that_a_reimage_may_not_convert(self):
        error = exception.ImageConversionNotAllowed(image_id='i', reason='')
        self.assertEqual([], self.report(
            error, refusals.FROM_IMAGE,
            VOLUME._replace(previous_status='available'))[1])

    def test_no_second_message_where_cinder_makes_one(self):
        self.assertEqual([], self.report(exceptions.VolumeRefused('x'),
                                         refusals.TO_IMAGE)[1])
        self.assertEqual([], self.report(exceptions.VolumeRefused('x'),
                                         refusals.MAKE_EMPTY)[1])

    def test_what_has_no_project_gets_no_message(self):
        self.assertEqual([], self.report(exceptions.VolumeRefused('x'),
                                         refusals.MAKE, VOLUME._replace(
                                           project_id=None))[1])


class FinalTestCase(unittest.TestCase):

    def test_cinder_reschedules_none_of_them(self):
        # Its modules want Cinder's objects to be registered.
        from cinder.volume.flows.manager import create_volume
        task = create_volume.OnFailureRescheduleTask(None, None, None, None,
                                                     False)
        for error in refusals.ERRORS:
            self.assertTrue(issubclass(error, tuple(task.no_reschedule_types)))

    def test_their_words_are_their_own(self):
        for error in (exceptions.VolumeRefused('x'),
                      exceptions.InvalidExtraSpec('a', 'b', 'c'),
                      exceptions.BackingLost('volume', 'v', 'p')):
            self.assertNotIn(exception.MetadataCopyFailure.message[:20],
                             str(error))


if __name__ == '__main__':
    unittest.main()
