# SPDX-License-Identifier: Apache-2.0
"""`snapshot relink` refuses what is not the snapshot's.

tests/functional/disaster_damages.py has what it does to a vCenter.
"""

import contextlib
import datetime
import io
import types
import unittest
from unittest import mock

from oslo_utils import timeutils

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.cmd import snapshot_relinking

VOLUME = '11111111-2222-3333-4444-555555555555'
ID = '22222222-2222-3333-4444-555555555555'
OTHER = '33333333-2222-3333-4444-555555555555'


class RelinkTestCase(unittest.TestCase):

    def command(self, *words, points=(), path='', answers='y\n'):
        record = types.SimpleNamespace(
            id=ID, name=f'snapshot-{ID}', volume_id=VOLUME, volume=None,
            provider_location=path, display_description='',
            created_at=timeutils.utcnow(with_timezone=True)
            - datetime.timedelta(hours=2))
        evidence = compare.Evidence(
            (compare.Volume(VOLUME, f'volume-{VOLUME}', 'gold'),),
            tuple(compare.Snapshot(each, f'snapshot-{each}', VOLUME,
                                   template=bool(path))
                  for each in (ID, OTHER)),
            (compare.Machine('vm-1', f'volume-{VOLUME}', uuid=VOLUME,
                             volume_id=VOLUME, ours=True, pool='gold',
                             points=tuple(points)),), ())
        self.opened = mock.Mock()
        backends = mock.Mock()
        backends.names.return_value = ['vmdk']
        backends.opened.return_value = contextlib.nullcontext(self.opened)
        backends.locking = contextlib.nullcontext
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(
                snapshot_relinking.RelinkSnapshot, '_record',
                return_value=record), mock.patch.object(
                    collect.EvidenceReader, 'without_files',
                    return_value=evidence), mock.patch.object(
                        snapshot_relinking.locks, 'volumes',
                        contextlib.nullcontext), mock.patch.object(
                            collect.EvidenceReader, '__init__',
                            return_value=None):
            status = main.Application(
                backends, stdout=out, stderr=err,
                stdin=io.StringIO(answers)).run(
                    ['snapshot', 'relink', ID, *words])
        return status, out.getvalue() + err.getvalue()

    def test_the_question_says_when_both_were_taken(self):
        status, said = self.command('--to', 'snapshot-7', points=[
            compare.Point('snapshot-7', 'by hand', 7200.0)])
        self.assertEqual(0, status, said)
        self.assertIn('which was taken 2.0 h ago, to snapshot-', said)
        self.opened.volumeops.rename_snapshot.assert_called_once()

    def test_a_snapshot_with_a_record_or_of_another_vm_is_refused(self):
        status, said = self.command('--to', 'snapshot-7', points=[
            compare.Point('snapshot-7', f'snapshot-{OTHER}')])
        self.assertIn('which has a record', said)
        self.assertEqual(1, status)
        status, said = self.command('--to', 'snapshot-8')
        self.assertIn('has no snapshot', said)
        self.assertEqual(2, status)
        self.opened.volumeops.rename_snapshot.assert_not_called()

    def test_one_that_is_not_lost_is_refused(self):
        status, said = self.command('--to', 'snapshot-7', points=[
            compare.Point('snapshot-7', f'snapshot-{ID}')])
        self.assertIn('is not lost', said)
        self.assertEqual(1, status)

    def test_the_file_of_another_snapshot_is_refused(self):
        for path, file in (('', ID), ('DC/vm/x', OTHER)):
            status, said = self.command(
                '--vmtx', f'[gold] snapshot-{file}/snapshot-{file}.vmtx',
                path=path)
            self.assertEqual(1, status)
            self.assertIn('is not a template of', said)
        self.opened.relink.register_template.assert_not_called()


if __name__ == '__main__':
    unittest.main()
