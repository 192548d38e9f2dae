# SPDX-License-Identifier: Apache-2.0
"""Columns of a command's output, for a person and for a program.

A program gets each value in the unit that the column's key names
(``size_bytes``, ``age_seconds``): unchanged, except that CSV and plain values
(LINES) show control characters as escapes. A person gets it in a suitable
unit.
"""

import dataclasses
import unicodedata
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from cliff import columns
from oslo_utils import units

Row = tuple[Any, ...]
_SIZES = (('TiB', units.Ti), ('GiB', units.Gi), ('MiB', units.Mi),
          ('KiB', units.Ki))
# The formats in which a line is an object, so that a name must stay on one.
LINES = ('csv', 'value')
# With these a spreadsheet begins a formula.
_FORMULA = ('=', '+', '-', '@')
_TIMES = (('d', 86400), ('h', 3600), ('min', 60))


def visible(text: str) -> str:
    """Text for a terminal: what is not printed is shown as its escape.

    A project may give a volume a name that would change what the operator's
    terminal shows.
    """
    return ''.join(
        each if each.isprintable() or unicodedata.category(each) == 'Zs'
        else each.encode('unicode_escape').decode() for each in text)


def size(size_bytes: int | None) -> str:
    """A size for a person: '1.5 GiB'."""
    if size_bytes is None:
        return ''
    for unit, number in _SIZES:
        if abs(size_bytes) >= number:
            return f'{size_bytes / number:.1f} {unit}'
    return f'{size_bytes} B'


def duration(seconds: float | None) -> str:
    """A time for a person: '3.5 h'."""
    if seconds is None:
        return ''
    for unit, number in _TIMES:
        if seconds >= number:
            return f'{seconds / number:.1f} {unit}'
    return f'{seconds:.0f} s'


def truth(value: bool | None) -> str:
    """Yes or no for a person."""
    return '' if value is None else 'yes' if value else 'no'


def listed(values: Sequence[Any] | None) -> str:
    """Several values for a person."""
    return ', '.join(map(str, values or ()))


def plain(value: Any) -> str:
    """A value for a person; empty if it is unknown."""
    return '' if value is None else str(value)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a command's output."""

    key: str  # for a program
    title: str  # for a person
    show: Callable[[Any], str] = plain
    # Tables show it only with --long, so that they fit a screen.
    long: bool = False
    # Tables show it only if rows differ in it, or with --long.
    telling: bool = False


class Cell(columns.FormattableColumn[Any]):
    """A value, with the function that formats it for a person."""

    def __init__(self, value: Any, show: Callable[[Any], str],
                 form: str = '') -> None:
        """:param form: the format of the output"""
        super().__init__(value)
        self._show = show
        self._form = form

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        # Unknown values come first.
        if self._value is None or other._value is None:
            return self._value is None and other._value is not None
        return bool(self._value < other._value)

    def machine_readable(self) -> Any:
        """The value as a program reads it (cliff)."""
        value = self._value
        if self._form in LINES and isinstance(value, str):
            value = visible(value)
            if self._form == 'csv' and value.startswith(_FORMULA):
                return f"'{value}"
        return value

    def human_readable(self) -> str:
        """The value as a person reads it (cliff)."""
        return visible(self._show(self._value))


def chosen(known: Sequence[Column], wanted: Sequence[str], rows: list[Row],
           human: bool, long: bool) -> list[int]:
    """The positions of the columns to show.

    :param wanted: keys or titles; empty: the default columns
    :param human: the output is a table for a person
    :param long: a table shows all columns
    :raises ValueError: one of ``wanted`` is not a column
    """
    if wanted:
        return [_position(known, name) for name in wanted]
    if not human:
        return list(range(len(known)))
    return [number for number, column in enumerate(known)
            if (long or not column.long)
            and not (column.telling and not long
                     and len({row[number] for row in rows}) <= 1)]


def _position(known: Sequence[Column], name: str) -> int:
    plain_name = _normal(name)
    for number, column in enumerate(known):
        if plain_name in (_normal(column.key), _normal(column.title)):
            return number
    raise ValueError(f'there is no column {name!r}; the columns are '
                     f'{", ".join(column.key for column in known)}')


def _normal(name: str) -> str:
    return name.strip().lower().replace(' ', '_')
