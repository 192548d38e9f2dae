# SPDX-License-Identifier: Apache-2.0
"""The texts in the plugin's code, and which of them the log gets."""

import ast
import functools
import re
from collections.abc import Iterator

from cinder_vmdk_ext.tests.contract import seams
from tools import structure

#: In place of what a message has at run time.
VARIABLE = '...'
_FORMAT = re.compile(r'%(?:\(\w+\))?[.\d]*[srdf]')
_LEVELS = ('warning', 'error')
_modules = functools.cache(seams.our_modules)


def texts() -> set[str]:
    """Each text of some words in the code, with ``...`` for what varies."""
    return {found for tree in _modules().values()
            for node in structure.nodes(tree)
            if (found := text(node)) is not None and ' ' in found}


def logged() -> Iterator[str]:
    """Each text that the service logs as a warning or an error."""
    for module, tree in _modules().items():
        if '.cmd.' in module:
            continue  # it goes to the terminal of the person who asked
        for node in structure.nodes(tree):
            if (isinstance(node, ast.Call) and node.args
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in _LEVELS
                    and ast.unparse(node.func.value).endswith('LOG')):
                yield text(node.args[0]) or ''


def text(node: ast.AST) -> str | None:
    """A text as it is shown, with ``...`` for what varies; None: no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _FORMAT.sub(VARIABLE, node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(text(each) or VARIABLE for each in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = text(node.left), text(node.right)
        return (None if parts == (None, None) else
                ''.join(part or VARIABLE for part in parts))
    return None


def is_of(message: str, found: str) -> bool:
    """Whether a message in a document is (a part of) a text."""
    place = 0
    for piece in filter(None, (part.strip(' ') for part
                               in message.split(VARIABLE))):
        place = found.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True
