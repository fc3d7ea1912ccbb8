"""Charts as self-contained inline SVG without scripts; the page's style sets colours and text sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: Size of a chart in its own units, and the margins for its axes.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640.0, 220.0, 62.0, 14.0, 14.0, 34.0

#: Steps between marks of a time axis, in seconds; beyond the last one, whole days.
_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Bar:
    """One column, or one part of a row."""

    value: float
    words: str  #: tooltip
    kind: str = "bar"  #: CSS class, which sets the colour


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on an axis."""

    at: float  #: position on the axis, 0 to 1
    words: str


def columns(
    name: str, title: str, about: str, bars: Sequence[Bar], marks: Sequence[Mark], limit: Mark | None = None, *, whole: bool = False
) -> str:  # fmt: skip
    """Columns of equal width from left to right; `limit` is a vertical line at a fraction of the width."""
    top, ticks = scale(max((bar.value for bar in bars), default=0.0), whole=whole)
    wide = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    gap = min(2.0, wide * 0.15)
    drawn = [
        f'<rect class="{bar.kind}" x="{LEFT + number * wide + gap / 2:.2f}" y="{_y(bar.value / top):.2f}" '
        f'width="{wide - gap:.2f}" height="{_y(0) - _y(bar.value / top):.2f}"><title>{escape(bar.words)}</title></rect>'
        for number, bar in enumerate(bars)
    ]
    return _chart(name, title, about, [*_axes(top, ticks, marks), *drawn, *(_limit(limit) if limit else ())])


def rising(name: str, title: str, about: str, values: Sequence[float], marks: Sequence[Mark]) -> str:
    """A line through equidistant counts, from the left end to the right end."""
    top, ticks = scale(max(values, default=0.0), whole=True)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values) - 1)
    points = " ".join(f"{LEFT + number * step:.2f},{_y(value / top):.2f}" for number, value in enumerate(values))
    end = f"{LEFT + (len(values) - 1) * step:.2f},{_y(0):.2f}"
    area = f'<polygon class="area" points="{LEFT:.2f},{_y(0):.2f} {points} {end}"/>'
    return _chart(name, title, about, [*_axes(top, ticks, marks), area, f'<polyline class="line" points="{points}"/>'])


def rows(name: str, title: str, about: str, parts: Sequence[tuple[str, Sequence[Bar]]], marks: Sequence[Mark], top: float) -> str:
    """Rows of consecutive parts, on one scale up to `top`."""
    high, drawn = 40.0, []
    height = TOP + len(parts) * (high + 14) + BOTTOM
    for mark in marks:
        x = LEFT + mark.at * (WIDTH - LEFT - RIGHT)
        drawn.append(f'<line class="grid" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP}" y2="{height - BOTTOM:.2f}"/>')
        drawn.append(f'<text class="x" x="{x:.2f}" y="{height - BOTTOM + 22:.2f}">{escape(mark.words)}</text>')
    for number, (words, bars) in enumerate(parts):
        y, x = TOP + number * (high + 14), LEFT
        drawn.append(f'<text class="y" x="{LEFT - 8}" y="{y + high / 2 + 5:.2f}">{escape(words)}</text>')
        for bar in bars:
            wide = bar.value / top * (WIDTH - LEFT - RIGHT) if top else 0.0
            drawn.append(
                f'<rect class="{bar.kind}" x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high}">'
                f"<title>{escape(bar.words)}</title></rect>"
            )
            x += wide
    return _chart(name, title, about, drawn, height)


def scale(most: float, *, whole: bool = False) -> tuple[float, list[float]]:
    """The upper end of an axis from 0 that includes `most`, and round values on it; `whole` makes them integers, for counts."""
    if most <= 0:
        return 1.0, [0.0, 1.0]
    power = 10 ** math.floor(math.log10(most))
    step = next(power * part for part in (0.2, 0.5, 1, 2) if most / (power * part) <= 5)
    step = max(1, step) if whole else step
    count = math.ceil(most / step - 1e-9)
    return count * step, [step * number for number in range(count + 1)]


def time_marks(seconds: float, most: int = 6) -> list[Mark]:
    """Marks of a time axis from 0 to `seconds`, at round times."""
    if seconds <= 0:
        return []
    step = next((step for step in _TIME_STEPS if seconds / step <= most), 86400 * math.ceil(seconds / 86400 / most))
    return [Mark(number * step / seconds, _clock(number * step)) for number in range(int(seconds / step + 1e-9) + 1)]


def compact(value: float) -> str:
    """A short number for an axis: `1.5k`, `20`, `0.5`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _clock(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % (size / 2) == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _y(part: float) -> float:
    return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)


def _axes(top: float, ticks: Sequence[float], marks: Sequence[Mark]) -> list[str]:
    drawn = []
    for tick in ticks:
        y = _y(tick / top)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>')
        drawn.append(f'<text class="y" x="{LEFT - 8}" y="{y + 5:.2f}">{compact(tick)}</text>')
    for mark in marks:
        x = LEFT + mark.at * (WIDTH - LEFT - RIGHT)
        drawn.append(f'<line class="grid" x1="{x:.2f}" x2="{x:.2f}" y1="{_y(0):.2f}" y2="{_y(0) + 5:.2f}"/>')
        drawn.append(f'<text class="x" x="{x:.2f}" y="{HEIGHT - 10}">{escape(mark.words)}</text>')
    return drawn


def _limit(limit: Mark) -> tuple[str, str]:
    x = LEFT + limit.at * (WIDTH - LEFT - RIGHT)
    return (
        f'<line class="limit" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP - 10}" y2="{_y(0):.2f}"/>',
        f'<text class="limit" x="{x - 6:.2f}" y="{TOP + 4}">{escape(limit.words)}</text>',
    )


def _chart(name: str, title: str, about: str, drawn: Sequence[str], height: float = HEIGHT) -> str:
    return (
        f'<svg id="{name}" role="img" viewBox="0 0 {WIDTH:g} {height:g}" aria-labelledby="{name}-title {name}-about">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-about">{escape(about)}</desc>{"".join(drawn)}</svg>'
    )
