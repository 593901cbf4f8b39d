"""The HTML page of a run: tables and plots as inline SVG, nothing from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from bench.page import GOALS, numbers
from ledgerline.pages import document, table

WIDTH: Final = 900
LABEL: Final = 330
BAR: Final = 26
COLOURS: Final = {
    "ledgerline": "#1f6feb",
    "conventional_synchronous_commit_on": "#8250df",
    "conventional_synchronous_commit_off": "#bf8700",
    "faust": "#cf222e",
}
STYLE: Final = """
svg { display: block; margin: .5rem 0 1.5rem; color: var(--ink); max-width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
"""


def write_html(found: Mapping[str, Any], path: Path) -> None:
    """Write the page of *found*."""
    path.write_text(html(found), encoding="utf-8")


def html(found: Mapping[str, Any]) -> str:
    """The whole page."""
    body = [
        "<h1>Ledgerline bench</h1>",
        "<h2>Throughput: median, every round as a dot</h2>",
        throughput_plot(found["throughput"]["per_second"]),
        "<h2>Ratios: how many times as fast Ledgerline is; the goal as a line</h2>",
        ratio_plot(found["ratios"]),
        f"<p>{escape(found['durability'])}</p>",
        "<h2>Latency: percentiles at each rate, every run as a line</h2>",
        latency_plot(found["latency"]),
        "<h2>CPU µs per payment, by process</h2>",
        cpu_plot(found["throughput"]["cpu_us_per_transaction"]),
        "<h2>Numbers</h2>",
        *markdown(numbers(found)),
        "<h2>Window by window</h2>",
        table(
            "Throughput, load of the machine, and what its host took away",
            ["at", "way", "payments/s", "load", "CPU stolen in %"],
            [
                [str(window[key]) for key in ("at", "way", "per_second", "load", "stolen_percent")]
                for window in found["throughput"]["windows"]
            ],
            right={"payments/s", "load", "CPU stolen in %"},
        ),
        "<h2>The conventional way</h2>",
        f"<pre>{escape(found['conventional']['sql'])}</pre><pre>{escape(found['conventional']['explain'])}</pre>",
    ]
    return document("Ledgerline bench", body, STYLE)


def throughput_plot(measured: Mapping[str, Any]) -> str:
    """A bar for each way."""
    scale = (WIDTH - LABEL - 90) / max(each["highest"] for each in measured.values())
    parts = []
    for line, (way, each) in enumerate(measured.items()):
        y = line * (BAR + 10)
        parts.append(bar(y, way, each["median"] * scale, f"{each['median']:,.0f}/s", COLOURS[way]))
        parts += [dot(LABEL + value * scale, y + BAR / 2) for value in each["rounds"]]
    return svg("Throughput by way", len(measured) * (BAR + 10), parts)


def ratio_plot(measured: Mapping[str, Any]) -> str:
    """A bar for each ratio, from the lowest to the highest round as a line."""
    scale = (WIDTH - LABEL - 90) / max(1.0, *(each["highest"] for each in measured.values()))
    parts = []
    for line, (name, each) in enumerate(measured.items()):
        y, way = line * (BAR + 10), name.removeprefix("ratio_to_")
        parts.append(bar(y, name, each["median"] * scale, f"{each['median']:.2f}", COLOURS[way]))
        low, high, middle = LABEL + each["lowest"] * scale, LABEL + each["highest"] * scale, y + BAR / 2
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="currentColor"/>')
        if way in GOALS:
            at = LABEL + GOALS[way] * scale
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{y + BAR}" stroke="currentColor" stroke-width="3"/>'
            )
    return svg("Ratios", len(measured) * (BAR + 10), parts)


def latency_plot(measured: Mapping[str, Any]) -> str:
    """Percentiles to the right, milliseconds upwards."""
    names = ["p50", "p90", "p99", "p99.9"]
    highest = max(run["from_broker_ms"]["p99.9"] for each in measured.values() for run in each["runs"])
    height, step = 260, (WIDTH - 200) / len(names)
    parts = []
    for colour, (rate, each) in zip(["#1a7f37", "#1f6feb", "#cf222e"], measured.items(), strict=False):
        for run in each["runs"]:
            points = [
                (60 + n * step, height - run["from_broker_ms"][name] * (height - 20) / max(1, highest))
                for n, name in enumerate(names)
            ]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = points[-1]
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}">{int(rate):,}/s</text>')
    parts += [f'<text x="{50 + n * step:.1f}" y="{height + 18}">{name}</text>' for n, name in enumerate(names)]
    parts.append(f'<text x="0" y="20">{highest} ms</text><text x="0" y="{height}">0</text>')
    return svg("Latency by rate", height + 30, parts)


def cpu_plot(measured: Mapping[str, Any]) -> str:
    """A bar for each way, in parts."""
    shades = ["#1f6feb", "#54aeff", "#8250df", "#bf8700", "#cf222e", "#1a7f37", "#6e7781"]
    scale = (WIDTH - LABEL - 90) / max(each["sum"] for each in measured.values())
    processes = sorted({name for each in measured.values() for name in each if name != "sum"})
    parts = []
    for line, (way, each) in enumerate(measured.items()):
        y, x = line * (BAR + 10), float(LABEL)
        parts.append(f'<text x="0" y="{y + 17}">{escape(way)}</text>')
        for shade, name in zip(shades * 2, processes, strict=False):
            width = each.get(name, 0.0) * scale
            title = f"<title>{escape(name)} {each.get(name, 0.0)} µs</title>"
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{shade}">{title}</rect>')
            x += width
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 17}">{each["sum"]:.0f} µs</text>')
    y = len(measured) * (BAR + 10) + 14
    for number, (shade, name) in enumerate(zip(shades * 2, processes, strict=False)):
        parts.append(f'<rect x="{number * 95}" y="{y - 10}" width="10" height="10" fill="{shade}"/>')
        parts.append(f'<text x="{number * 95 + 14}" y="{y}">{escape(name)}</text>')
    return svg("CPU by way and process", y + 10, parts)


def bar(y: float, label: str, width: float, value: str, colour: str) -> str:
    """A labelled bar."""
    return (
        f'<text x="0" y="{y + 17}">{escape(label)}</text>'
        f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}" opacity="0.75"/>'
        f'<text x="{LABEL + width + 30:.1f}" y="{y + 17}">{escape(value)}</text>'
    )


def dot(x: float, y: float) -> str:
    """One measurement."""
    return f'<circle cx="{x:.1f}" cy="{y}" r="3.5" fill="currentColor"/>'


def svg(title: str, height: float, parts: Iterable[str]) -> str:
    """A plot; its numbers are in the tables below."""
    named = f'role="img" aria-label="{escape(title)}"'
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" {named}>{"".join(parts)}</svg>'


def markdown(text: str) -> list[str]:
    """The tables and paragraphs that ``bench.page`` writes, as HTML; a heading becomes the caption of its table."""
    found, heading = [], ""
    for part in text.replace("`", "").replace("**", "").split("\n\n"):
        lines = part.splitlines()
        if part.startswith("### "):
            heading = part[4:]
        elif part.startswith("|"):
            head, _, *body = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
            found.append(table(heading, head, body, right=head[1:]))
        else:
            found.append(f"<p>{escape(part)}</p>")
    return found
