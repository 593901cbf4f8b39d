"""The report keeps counting when it stops keeping, and says where, what was expected and what was found."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from ledgerline.verify import Invariant, Place, Report, show
from ledgerline.verify.report import MAX_KEPT, PROMISES


def printed(report: Report) -> str:
    console = Console(file=StringIO(), width=80)
    show(report, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_failure_is_counted_and_each_partition_keeps_some() -> None:
    report = Report()
    for partition in (3, 4):
        for seq in range(1, 101):
            report.fail(Invariant.I6, Place(partition, seq, 7), "available of alice", "0 or more", -seq)
    line = report.lines[Invariant.I6]
    assert (line.failed, len(line.failures)) == (200, 2 * MAX_KEPT)
    assert {f.place.partition for f in line.failures} == {3, 4}
    assert not report.ok


def test_a_failure_says_where_what_was_expected_and_what_was_found() -> None:
    report = Report()
    report.fail(Invariant.I6, Place(3, 128, 41), "available of alice", "0 or more", -5)
    report.fail(Invariant.I9, Place(2, None, 17, "requests"), "answers to this record", "one", "none")
    sentences = [str(f) for line in report.lines.values() for f in line.failures]
    assert sentences == [
        "partition 3, seq 128, offset 41: available of alice: expected 0 or more, found -5",
        "partition 2, requests offset 17: answers to this record: expected one, found none",
    ]


def test_a_report_for_people_has_one_line_per_invariant_and_names_what_is_broken() -> None:
    report = Report()
    report.skip(Invariant.I11, "no Postgres")
    report.fail(Invariant.I2, Place(0, 9, 4), "entry in EUR, debits - credits", 0, 1)
    text = printed(report)
    assert [line.split()[0] for line in text.splitlines()[1 : len(Invariant) + 1]] == [i.value for i in Invariant]
    assert "I2 FAILED: every entry balances" in text
    assert "partition 0, seq 9, offset 4: entry in EUR, debits - credits: expected 0, found 1" in text
    assert "row for row (no Postgres)" in text
    assert "NOT PROVED: I2 broken" in text


def test_long_values_are_cut_and_bytes_are_shown_as_text() -> None:
    report = Report()
    report.fail(Invariant.I16, Place(0), "outcome", b"{}", b'{"a":' + b"1" * 10_000)
    failure = report.failed(Invariant.I16)[0]
    assert failure.expected == "{}"
    assert len(failure.found) == 400


def test_every_invariant_has_a_promise_and_a_place_in_json() -> None:
    report = Report()
    assert set(PROMISES) == set(Invariant)
    assert [line["invariant"] for line in report.to_plain()["invariants"]] == [i.value for i in Invariant]
    assert report.to_plain()["ok"] is True
