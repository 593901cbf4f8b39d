"""The reading rule gives the verdicts of the model-checked specification, on every log and from every position."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.journal.errors import Corruption, JournalLoss
from streams.journal.log import LogRecord
from streams.journal.reading import Duplicate, Position, Reader, Stale, ValidBlock, WonLease
from tests.streams.journal.building import WHERE, behind, block, genesis, lease, numbers, reader, record

model: Any = importlib.import_module("tests.models.journal_model")  # kept as it was checked: not for mypy


class Step(NamedTuple):
    """A record of both worlds."""

    spec: Any
    real: LogRecord


class Log(NamedTuple):
    steps: list[Step]
    states: list[tuple[Any, Position]]  # in front of each record, and behind the last


def letter(token: int) -> str:
    return chr(ord("a") + token)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Leases and blocks as any mixture of writers, duplicates and lost records could leave them, up to the first halt.

    A block is built on any state that the log has had, under any lease of it or one that was lost: most verdicts occur.
    """
    spec, position = model.Reader(), reader().position
    states, steps, known = [(spec, position)], list[Step](), [(1, 1)]
    for number in range(draw(st.integers(1, 12))):
        offset = position.next_offset + draw(st.sampled_from([0, 0, 0, 2]))  # gaps in offsets mean nothing
        kind = draw(st.sampled_from(["lease", "block", "block", "block", "again"]))
        if kind == "again" and steps:
            step = draw(st.sampled_from(steps))
            step = Step(step.spec, step.real._replace(offset=offset))
        elif kind == "block":
            step = draw_block(draw, states, known, number, offset)
        else:
            epoch, token = max(1, spec.epoch + draw(st.sampled_from([1, 1, 1, 0, -1, 2]))), draw(st.integers(1, 5))
            known.append((epoch, token))
            step = Step(model.Lease(epoch, token, 0), record(offset, lease(epoch, letter(token), owner="w")))
        steps.append(step)
        verdict, spec = model.read(spec, step.spec)
        if verdict in (model.LOSS, model.CORRUPT):
            break
        at = Reader(WHERE, record(0, genesis()), position)
        at.read(step.real)
        position = at.position
        states.append((spec, position))
    return Log(steps, states)


def draw_block(
    draw: st.DrawFn, states: list[tuple[Any, Position]], known: list[tuple[int, int]], n: int, offset: int
) -> Step:
    base, position = draw(st.sampled_from([states[-1], states[-1], states[-1], *states]))
    current = (base.epoch or 1, base.token or 1)
    epoch, token = draw(st.sampled_from([current, current, current, *known]))
    facts = [n * 10 + i for i in range(draw(st.integers(1, 3)))]
    events = tuple(model.Event(0, fact, True, 0) for fact in facts)
    chain, previous = model.link(base.chain, base.seq + 1, events), position.chain
    if draw(st.sampled_from([False] * 9 + [True])):  # a block of another history
        chain, previous = chain + 1, bytes(32)
    spec = model.Block(epoch, token, 0, base.seq + 1, events, chain, base.seq)
    return Step(spec, record(offset, block(epoch, letter(token), base.seq + 1, previous, *facts, published=base.seq)))


def verdict_of(at: Reader, real: LogRecord) -> tuple[str, list[int]]:
    try:
        found = at.read(real)
    except JournalLoss:
        return model.LOSS, []
    except Corruption:
        return model.CORRUPT, []
    match found:
        case WonLease():
            return model.WON, []
        case ValidBlock():
            return model.VALID, numbers(found)
        case Stale():
            return model.STALE, []
        case Duplicate():
            return model.DUPLICATE, []


@settings(max_examples=400)
@given(logs())
def test_reader_and_specification_agree_from_every_position(log: Log) -> None:
    for start, (spec, position) in enumerate(log.states):
        at = reader(Position.from_plain(position.to_plain()))
        assert at.position == position
        for step in log.steps[start:]:
            expected, after = model.read(spec, step.spec)
            verdict, content = verdict_of(at, step.real)
            assert verdict == expected
            if verdict in (model.LOSS, model.CORRUPT):
                break
            assert content == [e.fact for e in after.events[spec.seq :]]
            spec = after
            assert (at.position.epoch, at.position.seq, at.position.lease_seq) == (spec.epoch, spec.seq, spec.since)
            assert at.position.token == (letter(spec.token) * 16).encode() if spec.token else not any(at.position.token)
            assert at.published_through <= spec.published
            at.confirm(step.real, at.position.next_offset)


@settings(max_examples=50)
@given(logs())
def test_a_copy_of_the_genesis_anywhere_changes_nothing(log: Log) -> None:
    for _, position in log.states:
        at = reader(position)
        assert isinstance(at.read(record(position.next_offset, genesis())), Duplicate)
        kept = behind(position, next_offset=at.position.next_offset, last=at.position.last)
        assert at.position == kept


def test_the_generated_logs_reach_every_verdict() -> None:
    seen: set[str] = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(logs())
    def collect(log: Log) -> None:
        spec = model.Reader()
        for step in log.steps:
            verdict, spec = model.read(spec, step.spec)
            seen.add(verdict)

    collect()
    assert seen == {model.WON, model.VALID, model.DUPLICATE, model.STALE, model.LOSS, model.CORRUPT}
