"""`seq -> offset` on logs with stale blocks, copies and gaps."""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.journal.errors import JournalLoss
from streams.journal.index import EVERY_BLOCKS, MAX_ENTRIES, SeqIndex, find_block
from streams.journal.reading import Position, ValidBlock
from streams.journal.simulated import SimulatedBroker, SimulatedLog
from tests.streams.journal.building import WHERE, Message, behind, block, broker_with, lease, numbers, reader, record


class Built(NamedTuple):
    broker: SimulatedBroker
    position: Position
    contents: list[int]  # of each seq from 1
    seqs: SeqIndex


def build(seed: int, blocks: int) -> Built:
    """A journal of *blocks* valid blocks, many leases, late blocks of old writers, copies, gaps."""
    chance, at = random.Random(seed), reader()
    broker, contents, index = broker_with(), list[int](), SeqIndex()
    broker.max_fetch_records = chance.choice([1, 3, 100])
    epoch, sent, number = 0, list[Message](), 0

    def put(message: Message) -> None:
        if chance.random() < 0.2:
            broker.mark()
        offset = broker.append(*message)
        verdict = at.read(record(offset, message))
        if isinstance(verdict, ValidBlock):
            contents.extend(numbers(verdict))
            index.note(verdict.headers.seq, offset)

    for _ in range(blocks):
        if epoch == 0 or chance.random() < 0.3:
            late = []
            if epoch and chance.random() < 0.7:  # what the fenced owner had sent last comes late
                number += 3
                late = [block(epoch, "a", at.position.seq + 1, at.position.chain, *range(number, number + 3))]
            epoch += 1
            put(lease(epoch, "a"))
            for message in late:
                put(message)
        number += 5
        size = chance.randint(1, 4)
        message = block(epoch, "a", at.position.seq + 1, at.position.chain, *range(number, number + size))
        put(message)
        sent.append(message)
        if chance.random() < 0.2:
            put(message)
    return Built(broker, at.position, contents, index)


@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_every_seq_is_found_with_and_without_an_index(seed: int, blocks: int, indexed: bool) -> None:
    built = build(seed, blocks)
    log, index = SimulatedLog(built.broker, where=WHERE), built.seqs if indexed else None

    async def look() -> None:
        for seq in range(1, built.position.seq + 1):
            found = await find_block(log, seq, built.position, index)
            assert numbers(found)[seq - found.headers.seq] == built.contents[seq - 1]

    asyncio.run(look())


async def test_late_copies_of_several_blocks_in_a_row_do_not_hide_a_block() -> None:
    broker, at = broker_with(), reader()
    messages = [lease(1, "a")]
    at.read(record(1, messages[0]))
    for n in range(1, 9):
        messages.append(block(1, "a", n, at.position.chain, n))
        at.read(record(n + 1, messages[-1]))
    for message in (*messages[:7], messages[1], messages[2], messages[3], *messages[7:]):
        broker.append(*message)
    position = behind(at.position, next_offset=broker.end)
    for n in range(1, 9):
        assert numbers(await find_block(SimulatedLog(broker, where=WHERE), n, position)) == [n]


async def test_a_lookup_reads_about_as_many_records_as_a_binary_search() -> None:
    built = build(1, 2_000)
    built.broker.max_fetch_records = 4
    log, fetches = SimulatedLog(built.broker, where=WHERE), 0
    fetch = log.fetch

    async def counted(start: int, wait_s: float) -> object:
        nonlocal fetches
        fetches += 1
        return await fetch(start, wait_s)

    log.fetch = counted  # type: ignore[method-assign, assignment]  # counts
    await find_block(log, built.position.seq // 3, built.position)
    assert fetches < 40
    fetches = 0
    await find_block(log, built.position.seq // 3, built.position, built.seqs)
    assert fetches < 25


async def test_a_seq_outside_the_journal_is_a_mistake_of_the_caller_and_a_missing_one_is_journal_loss() -> None:
    built = build(2, 5)
    log = SimulatedLog(built.broker, where=WHERE)
    for seq in (0, built.position.seq + 1):
        with pytest.raises(ValueError, match="is not in 1"):
            await find_block(log, seq, built.position)
    elsewhere = behind(built.position, chain=bytes(32))
    with pytest.raises(JournalLoss, match="no block that the journal goes on from"):
        await find_block(log, built.position.seq, elsewhere)


def test_the_index_stays_small() -> None:
    index = SeqIndex()
    for n in range(EVERY_BLOCKS * (MAX_ENTRIES + 10)):
        index.note(n + 1, n)
    assert len(index._seqs) <= MAX_ENTRIES
    low, high = index.bounds(1_000_000, 10**9)
    assert low <= 999_999 < high
    assert high - low == 2 * EVERY_BLOCKS
