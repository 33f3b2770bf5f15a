"""Errors over time as a drawing (SVG) that needs nothing to be looked at but a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 420, 60, 20, 50, 50
COLOURS = ("#0b6e4f", "#9b2226", "#5f6b7a")


def lines(title: str, unit: str, series: Mapping[str, Sequence[tuple[datetime, float]]], marks: Sequence[tuple[datetime, str]]) -> str:
    """A drawing of *series* (name → points in time), with a dashed line and a word at each of *marks*."""
    points = [point for each in series.values() for point in each]
    first, last = min(at for at, _ in points), max(at for at, _ in points)
    most = max(value for _, value in points) * 1.1

    def x(at: datetime) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((at - first) / ((last - first) or 1))

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="16">{title}</text>',
    ]
    step = next(size for size in (5, 10, 20, 50, 100) if most / size <= 8)
    for value in range(0, int(most) + 1, step):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">{first:%B %Y}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{last:%B %Y}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{unit}</text>')
    for at, word in marks:
        parts.append(f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#888" stroke-dasharray="4 4"/>')
        parts.append(f'<text x="{x(at) + 3:.1f}" y="{TOP + 12}" fill="#555">{word}</text>')
    for (name, values), colour, place in zip(series.items(), COLOURS, range(len(COLOURS)), strict=False):
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in values)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 250 * place}" y="40" fill="{colour}">— {name}</text>')
    return "\n".join([*parts, "</svg>", ""])
