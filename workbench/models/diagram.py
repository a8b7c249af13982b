"""Architecture diagrams as inline SVG: boxes on a grid, arrows between them. Text takes the page's own colour."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, TITLE = 150, 46, 40, 34, 10, 26

# Translucent fills stand on white and on dark pages alike; strokes and text are `currentColor`.
TONES = {"data": "#7f7f7f", "first": "#1f77b4", "second": "#2ca02c", "third": "#ff7f0e", "fourth": "#9467bd"}


@dataclass(frozen=True)
class Box:
    """One part of the architecture: one or two lines of text at a place of the grid (fractions allowed)."""

    key: str
    lines: tuple[str, ...]
    column: float
    row: float
    tone: str = "data"
    drawn: bool = True
    """False: an option leaves it out, and the arrows to and from it."""

    @property
    def left(self) -> float:
        """x of the left edge."""
        return MARGIN + self.column * (WIDTH + GAP_X)

    @property
    def top(self) -> float:
        """y of the upper edge."""
        return MARGIN + TITLE + self.row * (HEIGHT + GAP_Y)


def draw(boxes: Sequence[Box], arrows: Sequence[str], title: str) -> str:
    """SVG of the boxes and of the arrows between them: 'encoder > decoder > output' by keys, or 'encoder > decoder: label'."""
    by_key = {box.key: box for box in boxes}
    boxes = [box for box in boxes if box.drawn]
    width = max(box.left for box in boxes) + WIDTH + MARGIN
    height = max(box.top for box in boxes) + HEIGHT + MARGIN
    # the arrow head's id must be unique on a page with several diagrams, or all take the first one's colour
    tip = "tip-" + hashlib.blake2b(repr((boxes, arrows, title)).encode(), digest_size=4).hexdigest()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title, quote=True)}" style="max-width:{width:g}px;width:100%;color:inherit" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>',
        f'<text x="{MARGIN}" y="{MARGIN + 12}" fill="currentColor" font-weight="600" font-size="13">{escape(title)}</text>',
    ]
    for chain, _, label in (arrow.partition(": ") for arrow in arrows):
        ends = pairwise(by_key[key] for key in chain.split(" > "))
        parts += [_arrow(start, end, label, tip) for start, end in ends if start.drawn and end.drawn]
    parts += [_box(box) for box in boxes]
    return "".join([*parts, "</svg>"])


def _box(box: Box) -> str:
    colour = TONES[box.tone]
    lines = [line for line in box.lines if line]
    first = box.top + HEIGHT / 2 + 4 - 7 * (len(lines) - 1)
    text = "".join(
        f'<text x="{box.left + WIDTH / 2:g}" y="{first + 14 * index:g}" text-anchor="middle" fill="currentColor"'
        f"{'' if index else ' font-weight=' + chr(34) + '600' + chr(34)}>{escape(line)}</text>"
        for index, line in enumerate(lines)
    )
    return (
        f'<rect x="{box.left:g}" y="{box.top:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour}" fill-opacity="0.18" '
        f'stroke="{colour}" stroke-width="1.2"/>{text}'
    )


def _arrow(start: Box, end: Box, label: str, tip: str) -> str:
    if abs(start.column - end.column) < 0.5:  # one above the other
        down = 1 if end.row > start.row else -1
        x0, y0 = start.left + WIDTH / 2, start.top + (HEIGHT if down > 0 else 0)
        x1, y1 = end.left + WIDTH / 2, end.top + (0 if down > 0 else HEIGHT)
        path = f"M{x0:g} {y0:g}C{x0:g} {(y0 + y1) / 2:g} {x1:g} {(y0 + y1) / 2:g} {x1:g} {y1:g}"
    else:
        right = end.column > start.column
        x0, y0 = start.left + (WIDTH if right else 0), start.top + HEIGHT / 2
        x1, y1 = end.left + (0 if right else WIDTH), end.top + HEIGHT / 2
        middle = (x0 + x1) / 2
        path = f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
    text = ""
    if label:
        text = (
            f'<text x="{(x0 + x1) / 2 + 4:g}" y="{(y0 + y1) / 2 - 4:g}" fill="currentColor" fill-opacity="0.8" '
            f'font-size="10">{escape(label)}</text>'
        )
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="0.7" marker-end="url(#{tip})"/>{text}'
