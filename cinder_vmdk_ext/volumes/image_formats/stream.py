# SPDX-License-Identifier: Apache-2.0
"""Reads bytes before, or while, they are passed on."""

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator

CUT = 'it is cut off: its data ends before its end'
# A walk yields how many bytes it needs next; a negative number skips bytes.
Walk = Generator[int, bytes, None]
Step = Generator[int, bytes, bytes]


class FormatError(ValueError):
    """The bytes are not a usable disk; the text says why, to a user."""

    def __init__(self, reason: str, remedy: str = '') -> None:
        """:param remedy: what the user can do; '': only make the file anew"""
        super().__init__(f'{reason}; {remedy}' if remedy else reason)
        self.reason, self.remedy = reason, remedy


def check_capacity(size_bytes: int, most_bytes: int | None) -> None:
    """Compare a disk's capacity with that of its volume.

    :param most_bytes: the volume's capacity; None: no limit
    :raises FormatError: the disk is larger than the volume
    """
    if most_bytes is not None and size_bytes > most_bytes:
        raise FormatError(f'its disk holds {size_bytes} bytes and the volume '
                          f'{most_bytes}', 'make the volume larger')


class Peekable:
    """Chunks whose beginning can be read before they are iterated over."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._ahead = bytearray()
        self.position = 0  # number of bytes that were taken

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, which stay; fewer only at the end."""
        while len(self._ahead) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._ahead += chunk
        return bytes(self._ahead[:count])

    def take(self, count: int) -> bytes:
        """Read the next ``count`` bytes.

        :raises FormatError: there are fewer
        """
        data = self.peek(count)
        if len(data) < count:
            raise FormatError(CUT)
        del self._ahead[:count]
        self.position += count
        return data

    def pieces(self, count: int) -> Iterator[bytes]:
        """Read the next ``count`` bytes, in pieces as they arrive.

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
    """A step of a walk: read ``count`` bytes.

    :raises FormatError: there are fewer
    """
    data = yield count
    if len(data) < count:
        raise FormatError(CUT)
    return data


def skip(count: int) -> Walk:
    """A step of a walk: skip ``count`` bytes.

    :raises FormatError: there are fewer
    """
    if count and (yield -count):
        raise FormatError(CUT)


class Walker:
    """Runs a walk over chunks of bytes.

    A walk yields how many bytes it needs, and is sent them; at the end of the
    data it may be sent fewer. To skip bytes it yields a negative number, and
    is sent an empty string; if the data ends before, it is sent one byte.
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
        """Pass a chunk to the walk.

        :raises FormatError: the walk found the data unsound
        """
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
        """Signal the end of the data to the walk.

        :raises FormatError: the walk needs more data
        """
        while not self._over:
            data = b'-' if self._want < 0 else bytes(self._ahead)
            self._ahead.clear()
            self._send(data)
