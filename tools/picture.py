# SPDX-License-Identifier: Apache-2.0
"""Draws the picture of the plugin's packages from their imports.

    python -m tools.picture    writes docs/architecture.svg (make architecture)

A box is a package, or a module outside the packages; the floors are those of
structure.LAYERS. A line leads from a box down to all boxes that its modules
import. The same sources always give the same picture.
"""

import ast
import html
import sys
from typing import NamedTuple

from tools import structure

PICTURE = structure.ROOT / 'docs' / 'architecture.svg'

LEFT, WIDTH, GAP = 92, 600, 14  # in pixels, like all sizes below
LANE, ENTRY = 15, 9
HEADER, LINE, CHARACTER, CHIP_GAP, MARGIN = 24, 17, 6.7, 12, 10
COLOURS = ('#7b2d8b', '#1a5fb4', '#26862b', '#b5560c', '#a51d2d', '#0b7285',
           '#5f3dc4', '#8a6d00', '#c2255c', '#2b8a3e', '#364fc7', '#495057')


class Box(NamedTuple):
    """A room (a package, or a module at the top) in the picture."""

    room: str
    purpose: str
    lines: list[list[tuple[str, str]]]  # of modules: name, purpose
    top: int
    height: int


def purpose(tree: ast.Module) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(tree) or '').partition('\n')[0]


def floors() -> dict[str, int]:
    """Each room's floor; the ground is 0."""
    return {room: height for height, layer
            in enumerate(reversed(structure.LAYERS)) for room in layer}


def boxes(modules: structure.Modules) -> list[Box]:
    """The rooms from the highest floor to the ground.

    :raises ValueError: a room has no floor
    """
    arrows, height = structure.arrows(modules), floors()
    found = structure.rooms(modules)
    homeless = sorted(set(found) - set(height))
    if homeless:
        raise ValueError('in no layer of tools/structure.py: '
                         + ', '.join(homeless))
    made, top = [], GAP
    for room in sorted(found, key=lambda each: (-height[each], each)):
        named = [(name.removeprefix(f'{room}.'), purpose(modules[name]))
                 for name in found[room]]
        lines = [] if [room] == found[room] else _wrapped(named)
        entries = sum(target == room for _source, target in arrows)
        tall = max(HEADER + len(lines) * LINE + MARGIN,
                   (entries + 1) * ENTRY + MARGIN)
        made.append(Box(room, _purpose_of(room, modules), lines, top, tall))
        top += tall + GAP
    return made


def _purpose_of(room: str, modules: structure.Modules) -> str:
    if room == 'ground':
        return 'What every package may use.'
    return purpose(modules[room]) if room in modules else ''


def _wrapped(named: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    lines: list[list[tuple[str, str]]] = [[]]
    room = WIDTH - 2 * MARGIN
    left: float = room
    for name, about in named:
        takes = len(name) * CHARACTER + CHIP_GAP
        if takes > left:
            lines.append([])
            left = room
        lines[-1].append((name, about))
        left -= takes
    return lines


def draw(modules: structure.Modules) -> str:
    """The picture as SVG."""
    drawn, arrows = boxes(modules), structure.arrows(modules)
    place = {box.room: box for box in drawn}
    order = [box.room for box in drawn]
    sources = [room for room in order
               if any(source == room for source, _target in arrows)]
    width = LEFT + WIDTH + (len(sources) + 2) * LANE
    height = drawn[-1].top + drawn[-1].height + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<title>The packages of cinder_vmdk_ext and their imports</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    parts += (_floor(number, room, place) for room, number
              in _first_of_floors(order).items())
    for lane, source in enumerate(sources):
        targets = {target: count for (each, target), count in arrows.items()
                   if each == source}
        ends = {target: place[target].top + 16 + ENTRY * (1 + sum(
            (other, target) in arrows for other in sources[:lane]))
            for target in targets}
        parts += _lines(source, targets, ends, place[source].top + 12, lane)
    for box in drawn:
        parts += _box(box)
    return '\n'.join([*parts, '</svg>']) + '\n'


def _first_of_floors(order: list[str]) -> dict[str, int]:
    height, found, last = floors(), {}, -1
    for room in order:
        if height[room] != last:
            last = found[room] = height[room]
    return found


def _floor(number: int, room: str, place: dict[str, Box]) -> str:
    middle = place[room].top + 16
    name = f'floor {number}' if number else 'ground'
    return f'<text x="14" y="{middle}" fill="#868e96">{name}</text>'


def _lines(source: str, targets: dict[str, int], ends: dict[str, int],
           out: int, lane: int) -> list[str]:
    """Lines from a box to the right, down, and to the boxes it imports."""
    colour = COLOURS[lane % len(COLOURS)]
    x, edge = LEFT + WIDTH + (lane + 1) * LANE, LEFT + WIDTH
    lines = [f'<g stroke="{colour}" fill="none" stroke-width="1.4">',
             f'<path d="M{edge} {out} H{x} V{max(ends.values())}"/>']
    for target, y in sorted(ends.items(), key=lambda item: item[1]):
        words = (f'{source} imports {target}, in {targets[target]} '
                 + ('place' if targets[target] == 1 else 'places'))
        lines.append(
            f'<circle cx="{x}" cy="{y}" r="1.6" fill="{colour}"/>'
            f'<path d="M{x} {y} H{edge + 2} m5 -3 l-5 3 l5 3">'
            f'<title>{html.escape(words)}</title></path>')
    return [*lines, '</g>']


def _box(box: Box) -> list[str]:
    parts = [
        '<g>', f'<rect x="{LEFT}" y="{box.top}" width="{WIDTH}" '
        f'height="{box.height}" rx="4" fill="#f1f3f5" stroke="#adb5bd"/>',
        f'<text x="{LEFT + MARGIN}" y="{box.top + 17}" font-weight="bold" '
        f'font-size="13">{box.room}</text>',
        f'<text x="{LEFT + MARGIN + 90}" y="{box.top + 17}" '
        f'fill="#495057">{html.escape(box.purpose)}</text>']
    for number, line in enumerate(box.lines):
        x: float = LEFT + MARGIN
        y = box.top + HEADER + (number + 1) * LINE - 4
        for name, about in line:
            parts.append(
                f'<text x="{x:.1f}" y="{y}" font-family="monospace" '
                f'font-size="11">{name}'
                f'<title>{html.escape(about)}</title></text>')
            x += len(name) * CHARACTER + CHIP_GAP
    return [*parts, '</g>']


def main() -> int:
    try:
        picture = draw(structure.read(structure.ROOT))
    except ValueError as error:
        raise SystemExit(f'no picture: {error}') from None
    PICTURE.write_text(picture, encoding='utf-8')
    print(f'written: {PICTURE.relative_to(structure.ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
