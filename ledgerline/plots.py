"""Plots as inline SVG for :mod:`ledgerline.pages`: lines over time, and bars. Colours come from the page's style.

No plotting library: those that draw without a script fix their colours (so no dark page) and bring numpy; the others
bring megabytes of script into each page.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Protocol

WIDTH: Final = 860
HEIGHT: Final = 300
LEFT: Final = 66
RIGHT: Final = 12
TOP: Final = 46
BOTTOM: Final = 44
TICKS: Final = 6
LETTER: Final = 7.4
"""How wide a letter of a mark's label is, at most, on average."""
BAR_HEIGHT: Final = 22
BAR_STEP: Final = 30
BAR_LABEL: Final = 300
BAR_VALUE: Final = 110

PLOT_STYLE: Final = """
svg.plot { display: block; width: 100%; min-width: 40rem; height: auto }
svg.plot text { font: 12px system-ui, sans-serif; fill: var(--soft) } svg.plot text.ink { fill: var(--ink) }
svg.plot .grid { stroke: var(--edge); stroke-width: 1 }
svg.plot .line { fill: none; stroke-width: 2; stroke-linejoin: round }
svg.plot .dashed { stroke-dasharray: 5 4 } svg.plot .band { fill: var(--alarm); opacity: .09 }
svg.plot .mark { stroke: var(--alarm); stroke-width: 1.5 }
svg.plot text.mark-label { fill: var(--alarm); font-weight: 600; paint-order: stroke; stroke: var(--paper);
  stroke-width: 4px }
svg.plot .slice { fill: transparent } svg.plot .slice:hover { fill: var(--soft); opacity: .18 }
.hue-0 { stroke: var(--hue-0) } .hue-1 { stroke: var(--hue-1) }
.hue-2 { stroke: var(--hue-2) } .hue-3 { stroke: var(--hue-3) }
.fill-0 { fill: var(--hue-0) } .fill-1 { fill: var(--hue-1) }
.fill-2 { fill: var(--hue-2) } .fill-3 { fill: var(--hue-3) }
.dot-0 { stroke: none; fill: var(--hue-0) } .dot-1 { stroke: none; fill: var(--hue-1) }
.dot-2 { stroke: none; fill: var(--hue-2) } .dot-3 { stroke: none; fill: var(--hue-3) }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; padding: 0; margin: .4rem 0;
  font-size: .88rem }
ul.legend svg { vertical-align: middle; margin-right: .45rem }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A value for each x; None leaves a gap. *hue* (0 to 3) and *dashed* tell lines apart."""

    name: str
    values: Sequence[float | None]
    hue: int
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at *x*."""

    x: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar; *shown* is its value as text."""

    label: str
    value: float
    shown: str
    hue: int


class Scale(Protocol):
    """Where a value lies between the bottom (0) and the top (1) of a plot, and which values are named."""

    def share(self, value: float) -> float:
        """Return the height of *value*."""

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Return the named values with their names."""


class Linear:
    """From 0 to the first round number that is not below *highest*."""

    def __init__(self, highest: float) -> None:
        self._step = nice_step(max(highest, 1.0), TICKS)
        self._top = self._step * max(1, math.ceil(highest / self._step))

    def share(self, value: float) -> float:
        """Return the height of *value*."""
        return value / self._top

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Return round numbers."""
        return [(n * self._step, number(n * self._step)) for n in range(round(self._top / self._step) + 1)]


class Milliseconds:
    """Powers of ten from 1 ms to the first that is not below *highest*; what is below 1 ms is drawn at 1 ms."""

    def __init__(self, highest: float) -> None:
        self._decades = max(1, math.ceil(math.log10(max(highest, 10.0))))

    def share(self, value: float) -> float:
        """Return the height of *value*."""
        return math.log10(max(value, 1.0)) / self._decades

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Return the powers of ten."""
        return [(10.0**n, f"{10**n:,} ms" if n < 3 else f"{10 ** (n - 3):,} s") for n in range(self._decades + 1)]


def nice_step(span: float, ticks: int) -> float:
    """Return 1, 2 or 5 times a power of ten, such that at most *ticks* steps cover *span*."""
    power = 10.0 ** math.floor(math.log10(span / ticks))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * ticks >= span * (1 - 1e-9))


def number(value: float) -> str:
    """Return a round number as an axis names it."""
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"


def legend(lines: Sequence[Line]) -> str:
    """Return the names of *lines* with a piece of each."""
    items = (
        f'<li><svg width="28" height="10" aria-hidden="true"><line x1="0" x2="28" y1="5" y2="5" stroke-width="2.5"'
        f' class="hue-{line.hue}"{_DASHES if line.dashed else ""}/></svg>{escape(line.name)}</li>'
        for line in lines
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def time_plot(
    *,
    name: str,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    xs: Sequence[float],
    until: float,
    lines: Sequence[Line],
    marks: Sequence[Mark],
    scale: Scale,
    hovers: Sequence[str],
) -> str:
    """Return *lines* over *xs* from 0 to *until*, with a legend.

    *name* is unique in the page; *title* and *description* are for those who cannot see it; *hovers* tell the values at
    each x. There are at most two marks; between them the plot is shaded.
    """
    across = (WIDTH - LEFT - RIGHT) / max(until, 1e-9)
    places = [LEFT + x * across for x in xs]
    parts = [
        *_y_axis(scale, y_label),
        *_x_axis(until, x_label),
        *_marks(marks, across),
        *(part for line in lines for part in _line(line, places, scale)),
        *_slices(places, hovers),
    ]
    return legend(lines) + _svg(name, title, description, HEIGHT, parts)


def bar_plot(*, name: str, title: str, description: str, bars: Sequence[Bar]) -> str:
    """Return *bars* from left to right, each with its label and value; the longest one fills the width."""
    across = (WIDTH - BAR_LABEL - BAR_VALUE) / max((bar.value for bar in bars), default=1.0)
    parts = []
    for line, bar in enumerate(bars):
        y, width = line * BAR_STEP, bar.value * across
        parts.append(
            f'<text class="ink" x="{BAR_LABEL - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="fill-{bar.hue}" x="{BAR_LABEL}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}"/>'
            f'<text class="ink" x="{BAR_LABEL + width + 8:.1f}" y="{y + 16}">{escape(bar.shown)}</text>'
        )
    return _svg(name, title, description, len(bars) * BAR_STEP, parts)


_DASHES: Final = ' stroke-dasharray="5 4"'


def _svg(name: str, title: str, description: str, height: int, parts: Sequence[str]) -> str:
    drawn = "\n".join(parts)
    return (
        f'<div class="scroll"><svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-labelledby="{name}-title {name}-description">\n<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>\n{drawn}\n</svg></div>'
    )


def _height(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _y_axis(scale: Scale, label: str) -> Iterator[str]:
    for value, named in scale.ticks():
        y = _height(scale.share(value))
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{named}</text>'
    middle = _height(0.5)
    yield f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(label)}</text>'


def _x_axis(until: float, label: str) -> Iterator[str]:
    step, y = nice_step(until, 2 * TICKS), HEIGHT - BOTTOM
    for count in range(int(until / step) + 1):
        x = LEFT + count * step * (WIDTH - LEFT - RIGHT) / until
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 5}"/>'
        yield f'<text x="{x:.1f}" y="{y + 19}" text-anchor="middle">{number(count * step)}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(label)}</text>'


def _marks(marks: Sequence[Mark], across: float) -> Iterator[str]:
    """A row for each label, so that they never cover each other.

    The first stands to the left of its mark, the second to the right, where the plot has room for it.
    """
    places = [LEFT + mark.x * across for mark in marks]
    if len(places) > 1:
        height = HEIGHT - TOP - BOTTOM
        yield (
            f'<rect class="band" x="{places[0]:.1f}" y="{TOP}" width="{places[-1] - places[0]:.1f}" height="{height}"/>'
        )
    for row, (mark, x) in enumerate(zip(marks, places, strict=True)):
        y = 14 + 17 * row
        width = len(mark.label) * LETTER
        fits_left, fits_right = x - 6 - width > 0, x + 6 + width < WIDTH
        anchor, gap = ("end", -6) if fits_left and (row == 0 or not fits_right) else ("start", 6)
        yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 11}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text class="mark-label" x="{x + gap:.1f}" y="{y}" text-anchor="{anchor}">{escape(mark.label)}</text>'


def _line(line: Line, places: Sequence[float], scale: Scale) -> Iterator[str]:
    """One stroke for each stretch of values without a gap; a value alone between gaps is a dot."""
    dashed = " dashed" if line.dashed else ""
    for stretch in _stretches(line.values, places):
        points = [(x, _height(scale.share(value))) for x, value in stretch]
        if len(points) == 1:
            yield f'<circle class="dot-{line.hue}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"/>'
        else:
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<polyline class="line hue-{line.hue}{dashed}" points="{drawn}"/>'


def _stretches(values: Sequence[float | None], places: Sequence[float]) -> Iterator[list[tuple[float, float]]]:
    stretch: list[tuple[float, float]] = []
    for x, value in zip(places, values, strict=True):
        if value is not None:
            stretch.append((x, value))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _slices(places: Sequence[float], hovers: Sequence[str]) -> Iterator[str]:
    """What the pointer finds: an invisible column for each x that tells the values there."""
    width = places[1] - places[0] if len(places) > 1 else 20.0
    place = f'y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    for x, told in zip(places, hovers, strict=True):
        yield f'<rect class="slice" x="{x - width / 2:.1f}" {place}><title>{escape(told)}</title></rect>'
