"""Bars as an SVG: one picture does not need a library for plots."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.series import number

WIDTH, ROW, LEFT, RIGHT, TOP = 760, 26, 190, 90, 44


def bars(title: str, values: Sequence[tuple[str, float]], ours: str) -> str:
    """A horizontal bar per value, as long as the value is large; those whose name begins with ``ours`` stand out."""
    longest = max(value for _, value in values)
    height = TOP + ROW * len(values) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"',
        ' font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="24" font-size="15" fill="#222">{escape(title)}</text>',
    ]
    for i, (name, value) in enumerate(values):
        y = TOP + ROW * i
        length = max(1.0, value / longest * (WIDTH - LEFT - RIGHT))
        color = "#c2410c" if name.startswith(ours) else "#94a3b8"
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end" fill="#222">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 8}" fill="{color}"/>',
            f'<text x="{LEFT + length + 6:.1f}" y="{y + 15}" fill="#222">{number(value)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
