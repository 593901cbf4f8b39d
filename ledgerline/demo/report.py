"""The report of a demo: one HTML page of what was measured, that loads nothing."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from ledgerline.demo.charts import NONE, answered_again_s, lag, latency, milliseconds, the_kill, throughput
from ledgerline.demo.figures import Figures
from ledgerline.demo.timeline import percentile
from ledgerline.errors import ConfigurationError
from ledgerline.pages import document, facts, paragraph, table
from ledgerline.plots import PLOT_STYLE, Bar, bar_plot
from ledgerline.verify.report import PROMISES
from schemas.times import format_time

FAILURES_SHOWN: Final = 20
PREPARING: Final = frozenset({"open_account", "deposit"})
"""Requests that open and fund accounts before the first payment."""
HUES: Final = {"accepted": 2, "replayed": 0, "declined": 1}


def write_report(figures: Figures, folder: Path) -> Path:
    """Write the page of *figures* in *folder*, named after the ledger. Raises ConfigurationError if it cannot."""
    path = folder / f"{figures.name}.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(html(figures), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the report of the demo could not be written to {path}: {error}; make room or rights there, or set"
            " LEDGERLINE_HOME to another folder"
        ) from error
    return path


def html(figures: Figures) -> str:
    """Return the whole page."""
    what = "one worker killed" if figures.killed else "nobody killed"
    title = f"Ledgerline demo: {figures.requests:,} payments, {what}"
    parts = [
        *_head(title, figures),
        *throughput(figures),
        *latency(figures),
        *lag(figures),
        *the_kill(figures),
        *_outcomes(figures),
        *_proof(figures),
        *_surroundings(figures),
    ]
    return document(title, parts, PLOT_STYLE)


def _head(title: str, figures: Figures) -> Iterator[str]:
    course, everything = figures.course, figures.course.everything
    yield f"<h1>{escape(title)}</h1>"
    yield paragraph(
        "The payments are simulated and their time is compressed (a labelled stream of the Sparkov generator, with"
        " troublesome requests mixed in). The servers, the processes, the kill and every figure below are real,"
        " measured in this one run.",
        "remark",
    )
    yield paragraph(
        f"{format_time(course.began_ms)}, ledger {figures.name} with {len(course.partitions)} partitions, two workers"
        f" and a sink, seed {figures.seed}, {figures.rate:,} requests per second asked for. Workers, sink and sender"
        " shared one machine, on the local stack Kafka and Postgres too.",
        "note",
    )
    p50, p99 = (milliseconds(percentile(everything.latencies_ms, share)) for share in (0.50, 0.99))
    others = [(milliseconds(percentile(group.latencies_ms, 0.99)), group.name) for group in course.groups[1:]]
    tiles = [
        ("Payments", f"{figures.requests:,}", f"sent, decided and booked in {figures.elapsed_s:.1f} s"),
        ("Throughput", f"{figures.requests / figures.elapsed_s:,.0f}/s", "on average, from the request to Postgres"),
        ("Latency p50", p50, "broker's time of a request to that of its outcome"),
        ("Latency p99", p99, "; ".join(["of all requests", *(f"{ms} of those to {name}" for ms, name in others)])),
    ]
    again_s = answered_again_s(figures)
    if figures.killed and again_s:
        since_s = max(again_s.values()) - course.seconds(figures.killed.at_ms)
        tiles.append(
            ("Take-over", f"{since_s:.1f} s", f"from the kill until all partitions of {figures.killed.name} answered")
        )
    proof = figures.proof
    held = sum(line.verdict == "ok" for line in proof.lines.values())
    remark = f"{held} of {len(proof.lines)} invariants hold, {proof.events:,} events checked"
    tiles.append(("Proof", "proved" if proof.ok else "NOT PROVED", remark))
    yield facts(tiles)


def _outcomes(figures: Figures) -> Iterator[str]:
    found = sorted(figures.by_result.items(), key=lambda item: (item[0][0] in PREPARING, -item[1], item[0]))
    played = [(result, number) for result, number in found if result[0] not in PREPARING]
    total = sum(number for _, number in played)
    answers = sum(number for (_, status, reason), number in played if (status, reason) == ("accepted", ""))
    yield "<h2>Outcomes by reason</h2>"
    yield paragraph(
        f"Of {total:,} payments {answers:,} were accepted. The others, each with its reason; a replayed one was sent"
        " twice and got its first answer again:"
    )
    refused = [(result, number) for result, number in played if result[1:] != ("accepted", "")]
    bars = [
        Bar(
            label=f"{status} {reason.replace('_', ' ')}".strip() + ("" if kind == "transfer" else f" ({kind})"),
            value=number,
            shown=f"{number:,} ({number / total:.2%})",
            hue=HUES.get(status, 3),
        )
        for (kind, status, reason), number in refused
    ]
    if bars:
        described = "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
        drawn = bar_plot(
            name="outcomes", title="Outcomes that were not simply accepted", description=described, bars=bars
        )
        yield f"<figure>{drawn}</figure>"
    yield table(
        "Every outcome, those of opening and funding accounts last",
        ["request", "status", "reason", "outcomes"],
        [[kind, status, reason or NONE, f"{number:,}"] for (kind, status, reason), number in found],
        right={"outcomes"},
    )
    yield paragraph(
        f"Outcomes published a second time by a new owner, which readers drop by (partition, seq):"
        f" {figures.repeated_publications:,}."
    )


def _proof(figures: Figures) -> Iterator[str]:
    proof = figures.proof
    yield "<h2>Proof</h2>"
    where = f"{proof.events:,} events in {proof.partitions} partitions of ledger {proof.ledger_id}"
    if proof.ok:
        yield paragraph(
            f"Proved: {where}, read again from the logs and from Postgres in {proof.seconds:.1f} s.", "fine"
        )
    else:
        broken = ", ".join(line.invariant.value for line in proof.lines.values() if line.failed)
        yield paragraph(f"NOT PROVED: {broken} broken in {where}.", "alarm")
    yield table(
        "What ledgerline verify checked",
        ["invariant", "promise", "checked", "verdict"],
        [
            [
                line.invariant.value,
                PROMISES[line.invariant] + (f" ({line.note})" if line.note else ""),
                f"{line.checked:,}",
                line.verdict,
            ]
            for line in proof.lines.values()
        ],
        right={"checked"},
    )
    failures = [failure for line in proof.lines.values() for failure in line.failures]
    if failures:
        rows = [[failure.invariant.value, str(failure)] for failure in failures[:FAILURES_SHOWN]]
        yield table(f"The first {len(rows)} failures", ["invariant", "what is wrong"], rows)


def _surroundings(figures: Figures) -> Iterator[str]:
    yield "<h2>Where this was measured</h2>"
    rows = [[name, value] for name, value in figures.surroundings.items()]
    rows += [[f"rows in {name}", f"{number:,}"] for name, number in figures.rows.items()]
    rows.append(["accounts opened before the payments", f"{figures.accounts:,}"])
    yield table("Versions, machine, and what Postgres holds", ["what", "value"], rows)
