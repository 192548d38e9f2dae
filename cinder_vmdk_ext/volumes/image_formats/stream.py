# SPDX-License-Identifier: Apache-2.0
"""Bytes that are looked at before, or while, they are passed on."""

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator

CUT = 'it is cut off: its data ends before its end'
# What a walk asks for: so many bytes; negative: to be skipped.
Walk = Generator[int, bytes, None]
Step = Generator[int, bytes, bytes]


class FormatError(ValueError):
    """These bytes are no disk; the text is the reason, for a user."""


def check_capacity(size_bytes: int, most_bytes: int | None) -> None:
    """:raises FormatError: a disk is larger than its volume"""
    if most_bytes is not None and size_bytes > most_bytes:
        raise FormatError(f'its disk holds {size_bytes} bytes and the volume '
                          f'{most_bytes}; make the volume larger')


class Peekable:
    """Chunks whose beginning can be read before they are iterated over."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._ahead = bytearray()
        self.position = 0  # bytes that were taken

    def peek(self, count: int) -> bytes:
        """Up to so many of the next bytes; fewer only at the end."""
        while len(self._ahead) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._ahead += chunk
        return bytes(self._ahead[:count])

    def take(self, count: int) -> bytes:
        """Read so many of the next bytes.

        :raises FormatError: there are fewer
        """
        data = self.peek(count)
        if len(data) < count:
            raise FormatError(CUT)
        del self._ahead[:count]
        self.position += count
        return data

    def pieces(self, count: int) -> Iterator[bytes]:
        """So many of the next bytes, as they come.

        :raises FormatError: there are fewer
        """
        while count > 0:
            piece = bytes(self._ahead[:count]) or next(self._chunks, None)
            if piece is None:
                raise FormatError(CUT)
            if self._ahead:
                del self._ahead[:len(piece)]
            elif len(piece) > count:
                self._ahead += piece[count:]
                piece = piece[:count]
            count -= len(piece)
            self.position += len(piece)
            yield piece

    def __iter__(self) -> Iterator[bytes]:
        if self._ahead:
            ahead = bytes(self._ahead)
            self._ahead.clear()
            yield ahead
        yield from self._chunks


def take(count: int) -> Step:
    """A step of a walk: so many bytes.

    :raises FormatError: there are fewer
    """
    data = yield count
    if len(data) < count:
        raise FormatError(CUT)
    return data


def skip(count: int) -> Walk:
    """A step of a walk: over so many bytes.

    :raises FormatError: there are fewer
    """
    if count and (yield -count):
        raise FormatError(CUT)


class Walker:
    """Leads a walk over the chunks that it is fed with.

    A walk yields how many bytes it wants and is sent them: fewer at the end.
    It yields a negative number to skip bytes and is sent nothing, or at the
    end a byte for "there were fewer".
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._ahead = bytearray()
        self._over = False
        self._want = 0
        self._send(None)

    def _send(self, data: bytes | None) -> None:
        try:
            self._want = self._walk.send(data)  # type: ignore[arg-type]
        except StopIteration:
            self._over = True
            self._ahead.clear()

    def feed(self, chunk: bytes) -> None:
        """:raises FormatError: the walk has found a fault"""
        at = 0
        if self._ahead:
            at = min(self._want - len(self._ahead), len(chunk))
            self._ahead += chunk[:at]
            if len(self._ahead) < self._want:
                return
            data = bytes(self._ahead)
            self._ahead.clear()
            self._send(data)
        while not self._over:
            left = len(chunk) - at
            if self._want < 0:
                step = min(-self._want, left)
                self._want += step
                if self._want:
                    return
                at += step
                self._send(b'')
            elif left >= self._want:
                at += self._want
                self._send(chunk[at - self._want:at])
            else:
                self._ahead += chunk[at:]
                return

    def finish(self) -> None:
        """:raises FormatError: there is more that it needs"""
        while not self._over:
            data = b'-' if self._want < 0 else bytes(self._ahead)
            self._ahead.clear()
            self._send(data)
