"""The plots of a demo's report, each with its table: throughput, latency, lag, and what the kill did to whom."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from ledgerline.demo.figures import Figures
from ledgerline.demo.timeline import Course, Group, percentile
from ledgerline.pages import folded, paragraph, table
from ledgerline.plots import Line, Linear, Mark, Milliseconds, Scale, time_plot
from streams.kafka import SESSION_TIMEOUT_MS

X_LABEL: Final = "seconds since the first payment was received"
NONE: Final = "-"


def milliseconds(value: int | None) -> str:
    """Return a latency as text."""
    return NONE if value is None else f"{value:,} ms"


def answered_again_s(figures: Figures) -> dict[int, float]:
    """Return when each partition of the killed worker answered again, in seconds of the course."""
    return {partition: figures.course.seconds(at_ms) for partition, at_ms in figures.resumed_ms.items()}


def throughput(figures: Figures) -> Iterator[str]:
    """Yield requests, outcomes and booked events per second."""
    course, width_s = figures.course, figures.course.width_s
    slices = course.everything.slices
    lines = [
        Line(name="requests received by Kafka", values=[one.received / width_s for one in slices], hue=1, dashed=True),
        Line(name="outcomes published", values=[one.answered / width_s for one in slices], hue=0),
        Line(
            name="events booked in Postgres",
            values=[None if one.events is None else one.events / width_s for one in course.booked],
            hue=2,
        ),
    ]
    yield "<h2>Throughput</h2>"
    yield from _figure(
        figures,
        name="throughput",
        title="Requests, outcomes and booked events per second",
        y_label="per second",
        lines=lines,
        scale=Linear(_highest(lines)),
        xs=_middles(course),
        unit="/s",
        caption=f"Counted in slices of {width_s} s, requests and outcomes by the brokers' timestamps; the last slice is"
        " not full. How much Postgres holds was asked every half second, and is interpolated at the ends of a slice.",
    )


def latency(figures: Figures) -> Iterator[str]:
    """Yield p50 and p99 of the killed worker's partitions and of the others."""
    course = figures.course
    lines = [line for hue, group in _with_hues(course) for line in _percentiles(group, hue)]
    yield "<h2>Latency</h2>"
    yield from _figure(
        figures,
        name="latency",
        title="Latency, p50 and p99, by the time a request was received",
        y_label="milliseconds, seconds (logarithmic)",
        lines=lines,
        scale=Milliseconds(_highest(lines)),
        xs=_middles(course),
        unit=" ms",
        caption="From the broker's timestamp of a request to that of its outcome, shown where the request was received:"
        " who sent right after the kill waited for the whole take-over. Each step of the scale is ten times the one"
        " below. Where nothing was received there is no line.",
    )
    groups = (course.everything, *course.groups) if len(course.groups) > 1 else (course.everything,)
    shares = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
    yield table(
        "Latencies of the whole run",
        ["partitions", "requests", *shares],
        [
            [
                group.name,
                f"{len(group.latencies_ms):,}",
                *(milliseconds(percentile(group.latencies_ms, share)) for share in shares.values()),
            ]
            for group in groups
        ],
        right={"requests", *shares},
    )


def lag(figures: Figures) -> Iterator[str]:
    """Yield how many requests were unanswered, and how many events were not in Postgres."""
    course = figures.course
    lines = [
        Line(
            name=f"requests without an outcome: {group.name}", values=[one.unanswered for one in group.slices], hue=hue
        )
        for hue, group in _with_hues(course)
    ]
    lines.append(
        Line(name="events not yet in Postgres", values=[one.behind for one in course.booked], hue=2, dashed=True)
    )
    yield "<h2>Lag</h2>"
    yield from _figure(
        figures,
        name="lag",
        title="Requests without an outcome and events not yet in Postgres",
        y_label="records",
        lines=lines,
        scale=Linear(_highest(lines)),
        xs=[(number + 1) * course.width_s for number in range(course.number)],
        unit="",
        caption=f"Requests without an outcome: at the end of each slice of {course.width_s} s, by the brokers'"
        " timestamps. Postgres: the most events that an outcome told of and Postgres did not hold yet, of the looks in"
        " a slice.",
    )


def the_kill(figures: Figures) -> Iterator[str]:
    """Yield what the kill did to each partition."""
    killed, course = figures.killed, figures.course
    yield "<h2>The kill, partition by partition</h2>"
    if killed is None:
        yield paragraph("Nobody was killed in this run.")
    else:
        yield paragraph(
            f"{killed.name} was killed with SIGKILL {course.seconds(killed.at_ms):.1f} s after the first payment, while"
            f" it owned {len(killed.partitions)} of {len(course.partitions)} partitions; another worker joined at once."
            f" The consumer group gives away the partitions of a silent member after {SESSION_TIMEOUT_MS / 1000:.0f} s;"
            " then each new owner reads the journal and goes on where it ends."
        )
    again_s = answered_again_s(figures)
    at_s = 0.0 if killed is None else course.seconds(killed.at_ms)
    yield table(
        "Per partition",
        ["partition", "owner", "requests", "p50", "p99", "longest wait", "most unanswered", "answered again after"],
        [
            [
                group.name,
                f"{killed.name}, killed" if killed and number in killed.partitions else "lived",
                f"{len(group.latencies_ms):,}",
                *(milliseconds(percentile(group.latencies_ms, share)) for share in (0.50, 0.99, 1.0)),
                f"{group.most_unanswered:,}",
                f"{again_s[number] - at_s:.1f} s" if number in again_s else NONE,
            ]
            for number, group in enumerate(course.partitions)
        ],
        right={"requests", "p50", "p99", "longest wait", "most unanswered", "answered again after"},
    )


def _figure(
    figures: Figures,
    *,
    name: str,
    title: str,
    y_label: str,
    lines: Sequence[Line],
    scale: Scale,
    xs: Sequence[float],
    unit: str,
    caption: str,
) -> Iterator[str]:
    """Yield a plot with its caption, and below it the same as a table."""
    course = figures.course
    marks = _marks(figures)
    spans = [f"{n * course.width_s:,} to {(n + 1) * course.width_s:,} s" for n in range(course.number)]
    rows = [[span, *(_shown(line.values[n]) for line in lines)] for n, span in enumerate(spans)]
    hovers = [
        f"{span}\n" + "\n".join(f"{line.name}: {_shown(line.values[n])}{unit}" for line in lines)
        for n, span in enumerate(spans)
    ]
    told = [f"{line.name}: at most {_shown(_highest([line]))}{unit}" for line in lines] + [mark.label for mark in marks]
    plot = time_plot(
        name=name,
        title=title,
        description="; ".join(told),
        x_label=X_LABEL,
        y_label=y_label,
        xs=xs,
        until=course.number * course.width_s,
        lines=lines,
        marks=marks,
        scale=scale,
        hovers=hovers,
    )
    yield f"<figure>{plot}\n<figcaption>{escape(caption)}</figcaption></figure>"
    names = [line.name for line in lines]
    yield folded(
        "The same as a table", table(f"{title}{f', {unit.strip()}' if unit else ''}", ["time", *names], rows, names)
    )


def _marks(figures: Figures) -> list[Mark]:
    """The kill, and the moment from which all its partitions answered again."""
    killed, again_s = figures.killed, answered_again_s(figures)
    if killed is None:
        return []
    at_s = figures.course.seconds(killed.at_ms)
    marks = [Mark(x=at_s, label=f"SIGKILL of {killed.name} at {at_s:.1f} s")]
    if again_s:
        last_s = max(again_s.values())
        marks.append(Mark(x=last_s, label=f"its {len(again_s)} partitions answer again at {last_s:.1f} s"))
    return marks


def _with_hues(course: Course) -> list[tuple[int, Group]]:
    """The group of the killed worker in the colour of warning, the others in blue."""
    groups = course.groups
    return [(1, groups[0]), (0, groups[1])] if len(groups) > 1 else [(0, groups[0])]


def _percentiles(group: Group, hue: int) -> Iterator[Line]:
    yield Line(name=f"p50, {group.name}", values=[one.p50_ms for one in group.slices], hue=hue)
    yield Line(name=f"p99, {group.name}", values=[one.p99_ms for one in group.slices], hue=hue, dashed=True)


def _middles(course: Course) -> list[float]:
    return [(number + 0.5) * course.width_s for number in range(course.number)]


def _highest(lines: Sequence[Line]) -> float:
    return max((value for line in lines for value in line.values if value is not None), default=0)


def _shown(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"
