# SPDX-License-Identifier: Apache-2.0
"""Turns the plain values of :mod:`cinder_vmdk_ext.model` to JSON, and back.

What a field holds is read from its annotation, so a value is the same after
the way there and back.
"""

import collections.abc
import dataclasses
import re
import types
import typing
from typing import Any


def encode(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name))
                for field in dataclasses.fields(value)}
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, collections.abc.Mapping):
        return {str(key): encode(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(encode, value))
    if isinstance(value, (list, tuple)):
        return list(map(encode, value))
    return value


def decode(kind: Any, value: Any) -> Any:
    """The value of a type of which :func:`encode` made this.

    :raises TypeError, ValueError, AttributeError: it is none of that type
    """
    make: Any = kind
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return make(**{name: decode(hints[name], each)
                       for name, each in value.items() if name in hints})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return decode(next(each for each in inner
                           if each is not type(None)), value)
    if origin is re.Pattern:
        return re.compile(value)
    if origin is collections.abc.Mapping:
        return {inner[0](key): decode(inner[1], each)
                for key, each in value.items()}
    if origin is frozenset:
        return frozenset(decode(inner[0], each) for each in value)
    if origin is tuple:
        each_of = ([inner[0]] * len(value) if inner[-1] is Ellipsis
                   else inner)
        return tuple(decode(one, each) for one, each
                     in zip(each_of, value, strict=True))
    return value
