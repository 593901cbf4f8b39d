"""Journals of every format fold to the state they had when they were written, in any process."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.book import Book
from engine.digest import state_hash
from engine.evolve import evolve
from schemas.events import Answer, ConfigPickup, Skip, span
from schemas.outcomes import decode_outcome
from schemas.records import Header, input_hash
from streams.journal.log import LogRecord
from streams.journal.reading import Duplicate, Reader, Stale, ValidBlock, WonLease
from tests.golden.generate import make

FORMATS = sorted(path for path in Path(__file__).parent.glob("format-*") if path.is_dir())
ROOT = Path(__file__).parents[2]


def records(folder: Path) -> list[LogRecord]:
    found = []
    for offset, value in enumerate(sorted(folder.glob("*.value"))):
        shown = json.loads(value.with_suffix(".headers.json").read_text())
        headers: tuple[Header, ...] = tuple((name, text.encode()) for name, text in shown.items())
        found.append(LogRecord(offset, None, headers, value.read_bytes()))
    return found


def blocks(folder: Path) -> tuple[Reader, list[ValidBlock], list[type]]:
    first, *rest = records(folder)
    reader = Reader(folder.name, first)
    verdicts = [reader.read(record) for record in rest]
    return reader, [each for each in verdicts if isinstance(each, ValidBlock)], [type(each) for each in verdicts]


def test_a_golden_journal_exists() -> None:
    assert FORMATS


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_a_golden_journal_folds_to_its_state(folder: Path) -> None:
    reader, valid, _ = blocks(folder)
    book = Book.from_genesis(reader.genesis)
    for block in valid:
        for event in block.events:
            evolve(book, event)
    state = json.loads((folder / "state.json").read_text())
    found = {"seq": book.seq, "state_hash": state_hash(book), "chain": reader.position.chain.hex()}
    assert found == state


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_a_golden_journal_holds_every_kind_of_record_and_event(folder: Path) -> None:
    _, valid, verdicts = blocks(folder)
    assert set(verdicts) == {WonLease, ValidBlock, Stale, Duplicate}
    events = [event for block in valid for event in block.events]
    assert {type(event) for event in events} == {Answer, Skip, ConfigPickup}
    answers = [event for event in events if isinstance(event, Answer)]
    assert {event.status for event in answers} == {"accepted", "declined", "rejected"}
    assert any(event.replayed for event in answers)
    assert any(event.record[0] is None for event in answers)
    assert {event.verdict for event in events if isinstance(event, ConfigPickup)} == {"active", "refused"}


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_a_golden_journal_takes_every_way_of_the_fold(folder: Path) -> None:
    """Each memory forgets something, each effect occurs, and a loan is drawn, paid back and closed."""
    reader, valid, _ = blocks(folder)
    book = Book.from_genesis(reader.genesis)
    answered, paid, used = set[int](), set[int](), set[int]()
    answers = [event for block in valid for event in block.events if isinstance(event, Answer)]
    for event in (event for block in valid for event in block.events):
        evolve(book, event)
        answered |= book.memory.generations.keys()
        paid |= book.payments.generations.keys()
        used |= {day for account in book.accounts.values() for each in account.usage.values() for day in each.days}
    assert answered > book.memory.generations.keys()
    assert paid > book.payments.generations.keys()
    assert used > {day for each in book.accounts["alice"].usage.values() for day in each.days}
    for effect in ("legs", "account", "usage", "payment", "profile"):
        assert any(getattr(event, effect) for event in answers), effect
    loan = book.accounts["loan-6"]
    assert (loan.normal_side, loan.status, loan.debits_posted, loan.balance_minor) == ("debit", "closed", 30_000, 0)


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_the_events_of_a_golden_journal_point_to_their_bytes(folder: Path) -> None:
    _, valid, _ = blocks(folder)
    for block in valid:
        for seq, event in enumerate(block.events, block.headers.seq):
            if isinstance(event, Answer):
                body = span(block.raw, event.outcome)
                assert body is not None
                outcome = decode_outcome(body)
                assert (outcome.seq, outcome.status, outcome.reason) == (seq, event.status, event.reason)
                assert outcome.transaction.endswith(f"-{event.original or seq}")
                explanation = span(block.raw, event.explanation)
                assert explanation is not None
                assert json.loads(explanation)["decision"] == event.status
                framed = span(block.raw, event.record)
                assert framed is None or input_hash(framed) == event.sha256


@pytest.mark.parametrize(("seed", "zone"), [("0", "UTC"), ("1", "Pacific/Kiritimati"), ("4711", "America/St_Johns")])
def test_deciding_gives_the_same_bytes_in_every_process(seed: str, zone: str) -> None:
    """Not compared with the golden files: they are of the past, and a new version may word a refusal otherwise."""
    program = (
        "import hashlib, json, time; time.tzset()\n"
        "from engine.digest import state_hash\n"
        "from tests.golden.generate import make\n"
        "journal = make()\n"
        "values = [hashlib.sha256(repr(record).encode()).hexdigest() for record in journal.records]\n"
        "print(json.dumps([values, state_hash(journal.desk.book), state_hash(journal.desk.folded)]))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    values, live, folded = json.loads(run.stdout)
    journal = make()
    assert values == [hashlib.sha256(repr(record).encode()).hexdigest() for record in journal.records]
    assert live == folded == state_hash(journal.desk.book)
