# SPDX-License-Identifier: Apache-2.0
"""Data is checked before, or while, it is passed on."""

import unittest

from cinder_vmdk_ext.volumes.image_formats import stream

DATA = bytes(range(100))


def cut(size):
    return [DATA[at:at + size] for at in range(0, len(DATA), size)]


class PeekableTestCase(unittest.TestCase):

    def test_what_is_peeked_at_is_passed_on(self):
        for size in (1, 7, 100):
            source = stream.Peekable(cut(size))
            self.assertEqual(DATA[:30], source.peek(30))
            self.assertEqual(DATA, b''.join(source))

    def test_at_the_end_there_is_less_to_peek_at(self):
        self.assertEqual(DATA, stream.Peekable(cut(7)).peek(101))
        self.assertEqual(b'', stream.Peekable([]).peek(1))

    def test_pieces_end_where_they_are_to_end(self):
        for size in (1, 7, 100):
            source = stream.Peekable(cut(size))
            self.assertEqual(DATA[:10], source.take(10))
            self.assertEqual(DATA[10:50], b''.join(source.pieces(40)))
            self.assertEqual(DATA[50:], b''.join(source))

    def test_what_is_not_there_cannot_be_taken(self):
        with self.assertRaises(stream.FormatError):
            stream.Peekable(cut(7)).take(101)
        with self.assertRaises(stream.FormatError):
            list(stream.Peekable(cut(7)).pieces(101))


class WalkerTestCase(unittest.TestCase):

    def walked(self, chunks, end=90):
        """What a walk sees that takes ten bytes and skips ten."""
        seen = []

        def walk():
            for _ in range(0, end, 20):
                seen.append((yield from stream.take(10)))
                yield from stream.skip(10)
        walker = stream.Walker(walk())
        for chunk in chunks:
            walker.feed(chunk)
        walker.finish()
        return b''.join(seen)

    def test_it_sees_the_same_however_the_data_is_cut(self):
        wanted = b''.join(DATA[at:at + 10] for at in range(0, 100, 20))
        for size in (1, 3, 10, 11, 99, 100):
            self.assertEqual(wanted, self.walked(cut(size)))

    def test_data_behind_its_end_is_not_looked_at(self):
        self.assertEqual(DATA[:10], self.walked(cut(7), end=20))

    def test_it_fails_where_data_is_missing(self):
        for length in (0, 5, 10, 19, 45, 99):
            with self.assertRaises(stream.FormatError):
                self.walked([DATA[:length]])


if __name__ == '__main__':
    unittest.main()
