"""The report of a demo tells what was measured, whole, to anyone, without loading anything."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledgerline.demo.killed import Killed
from ledgerline.demo.report import html, write_report
from ledgerline.demo.timeline import Timeline, course_of
from ledgerline.errors import ConfigurationError
from tests.ledgerline.demo.recorded import BEGAN_MS, KILLED, PARTITIONS, REQUESTS, broken_proof, figures
from tests.ledgerline.page_reader import Page

THROUGHPUT = "Requests, outcomes and booked events per second, /s"
LATENCY = "Latency, p50 and p99, by the time a request was received, ms"
LAG = "Requests without an outcome and events not yet in Postgres"


def page(**changed: Any) -> Page:
    return Page(html(figures(**changed)))


def numbers(cells: list[str]) -> list[int]:
    return [int(cell.replace(",", "")) for cell in cells if cell != "-"]


def test_the_page_loads_nothing() -> None:
    assert page().loads == []


def test_the_page_says_that_payments_are_simulated_and_where_it_was_measured() -> None:
    text = page().text
    for told in ("payments are simulated", "2979a450f969", "3.11.7", "Some CPU, 2 cores", "demo-20260922-101500"):
        assert told in text
    assert "2026-09-21T14:13:20.000Z" in text


def test_the_page_holds_the_figures_of_the_run() -> None:
    found = page()
    assert f"{REQUESTS / 7.9:,.0f}/s" in found.text
    assert sum(numbers(found.column(THROUGHPUT, "requests received by Kafka"))) == REQUESTS
    assert sum(numbers(found.column(THROUGHPUT, "outcomes published"))) == REQUESTS
    assert sum(numbers(found.column(THROUGHPUT, "events booked in Postgres"))) == pytest.approx(REQUESTS, abs=8)
    assert found.column("Latencies of the whole run", "p50")[0] == "4 ms"
    assert found.column("Latencies of the whole run", "max") == ["3,000 ms", "3,000 ms", "4 ms"]
    assert max(numbers(found.column(LAG, "events not yet in Postgres"))) == 20
    assert found.column("Versions, machine, and what Postgres holds", "value")[-4:] == [
        "2,844",
        "1,497",
        "2,994",
        "1,302",
    ]


def test_every_plot_marks_the_kill_and_the_take_over() -> None:
    plots = page().plots
    over_time = [plot for plot in plots if plot.attrib["aria-labelledby"].split()[0] != "outcomes-title"]
    assert len(over_time) == 3
    for plot in over_time:
        labels = [each.text for each in plot.iter("text") if each.attrib.get("class") == "mark-label"]
        assert labels == ["SIGKILL of worker-1 at 2.5 s", "its 2 partitions answer again at 5.5 s"]


def test_the_pointer_finds_the_values_of_each_second_with_their_units() -> None:
    hovers = [[each.text or "" for each in plot.iter("title")][1:] for plot in page().plots[:3]]
    assert [len(told) for told in hovers] == [8, 8, 8]
    assert "3 to 4 s\nrequests received by Kafka: 100/s\noutcomes published: 50/s" in hovers[0][3]
    assert "p50, the other partitions: 4 ms" in hovers[1][3]
    assert "requests without an outcome: partitions of worker-1, killed: 75" in hovers[2][3]


def test_the_table_of_the_kill_tells_each_partition() -> None:
    found = page()
    assert found.column("Per partition", "owner") == ["worker-1, killed", "lived", "worker-1, killed", "lived"]
    assert found.column("Per partition", "answered again after") == ["2.2 s", "-", "3.0 s", "-"]


def test_a_run_without_a_kill_has_no_mark_and_says_so() -> None:
    found = page(killed=None)
    assert "Nobody was killed" in found.text
    assert "SIGKILL" not in found.text
    assert "mark-label" not in "".join(each.attrib.get("class", "") for plot in found.plots for each in plot.iter())
    assert set(found.column("Per partition", "answered again after")) == {"-"}
    assert [row[0] for row in found.tables["Latencies of the whole run"]] == ["partitions", "all partitions"]


def test_partitions_that_never_answered_again_leave_the_kill_alone() -> None:
    found = page(resumed_ms={})
    labels = [each.text for each in found.plots[0].iter("text") if each.attrib.get("class") == "mark-label"]
    assert labels == ["SIGKILL of worker-1 at 2.5 s"]


def test_a_second_without_outcomes_shows_zero_and_no_latency() -> None:
    timeline = Timeline()
    for received_ms in (0, 10, 3_010):
        timeline.answered(1, BEGAN_MS + received_ms, BEGAN_MS + received_ms + 3)
    found = page(course=course_of(timeline, PARTITIONS, None), killed=None, resumed_ms={})
    assert found.column(THROUGHPUT, "outcomes published") == ["2", "0", "0", "1"]
    assert found.column(THROUGHPUT, "events booked in Postgres") == ["-"] * 4
    assert found.column(LATENCY, "p50, all partitions") == ["3", "-", "-", "3"]
    assert found.column("Per partition", "p99") == ["-", "3 ms", "-", "-"]


def test_outcomes_are_told_by_reason_those_that_open_accounts_last() -> None:
    found = page()
    caption = "Every outcome, those of opening and funding accounts last"
    assert found.column(caption, "outcomes") == ["655", "21", "14", "7", "3", "1,302", "842"]
    bars = next(plot for plot in found.plots if plot.attrib["aria-labelledby"].startswith("outcomes"))
    labels = [each.text for each in bars.iter("text")]
    assert labels[:4] == ["replayed", "21 (3.00%)", "declined per transaction limit", "14 (2.00%)"]
    assert len(labels) == 8


def test_a_run_in_which_everything_was_accepted_has_no_plot_of_refusals() -> None:
    found = page(by_result={("transfer", "accepted", ""): REQUESTS})
    assert len(found.plots) == 3


def test_text_from_elsewhere_is_escaped() -> None:
    hostile = '<script>alert("1")</script>'
    found = page(
        killed=Killed(name=hostile, partitions=KILLED.partitions, at_ms=KILLED.at_ms),
        by_result={(hostile, hostile, hostile): 3},
        surroundings={hostile: hostile},
        proof=broken_proof(1),
        name=hostile,
    )
    assert "script" not in found.tags
    assert "entry" not in found.tags
    assert found.text.count(hostile) > 10


def test_a_broken_promise_is_told_with_its_first_failures() -> None:
    found = page(proof=broken_proof(50))
    assert "NOT PROVED: I2 broken" in found.text
    assert "Proved:" not in found.text
    assert "14 of 15 invariants hold" in found.text
    assert len(found.tables["The first 20 failures"]) == 21
    assert "partition 3, seq 0: the <entry>: expected 0, found 1" in found.text


def test_the_page_reads_well_without_seeing_it() -> None:
    found = page()
    assert found.tags.count("h1") == 1
    assert found.tags.count("main") == 1
    for plot in found.plots:
        parts = plot.attrib["aria-labelledby"].split()
        told = {each.attrib.get("id"): each.text for each in plot}
        assert all(told[part] for part in parts)
    assert "" not in found.tables
    assert {THROUGHPUT, LATENCY, LAG} <= set(found.tables)
    ids = [each.attrib["id"] for plot in found.plots for each in plot.iter() if "id" in each.attrib]
    assert len(ids) == len(set(ids))


def test_the_file_is_named_after_the_ledger(tmp_path: Path) -> None:
    path = write_report(figures(), tmp_path / "reports")
    assert path == tmp_path / "reports" / "demo-20260922-101500.html"
    assert path.read_text(encoding="utf-8") == html(figures())


def test_a_report_that_cannot_be_written_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file, not a folder")
    with pytest.raises(ConfigurationError, match=r"could not be written to .*reports.*LEDGERLINE_HOME"):
        write_report(figures(), tmp_path / "reports")


@pytest.mark.parametrize("browser", ["/nowhere/browser", "false"])
def test_without_a_browser_the_page_is_named_and_nothing_fails(tmp_path: Path, browser: str) -> None:
    """A process of its own without any other browser: the library looks at PATH and DISPLAY, once."""
    (tmp_path / "false").symlink_to("/bin/false")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pathlib import Path; from ledgerline.cli.demo import _show; _show(Path('/r.html'))",
        ],
        env={"PATH": str(tmp_path), "BROWSER": browser, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "open /r.html in one" in done.stderr
