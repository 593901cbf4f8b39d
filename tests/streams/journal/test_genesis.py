"""What `init` writes, and what it refuses."""

from __future__ import annotations

import pytest

from streams.journal.errors import Corruption, JournalLoss, WrongLedger
from streams.journal.genesis import ensure_genesis, existing_genesis
from streams.journal.log import AppendUnknown
from streams.journal.simulated import Fate, SimulatedBroker, SimulatedLog
from tests.streams.journal.building import GENESIS, WHERE, broker_with, lease


def log_of(broker: SimulatedBroker) -> SimulatedLog:
    return SimulatedLog(broker, where=WHERE)


async def test_an_empty_journal_gets_the_genesis_at_offset_0() -> None:
    broker = SimulatedBroker()
    assert await existing_genesis(log_of(broker)) is None
    assert await ensure_genesis(log_of(broker), GENESIS) == GENESIS
    assert [r.offset for r in broker.records] == [0]
    assert await existing_genesis(log_of(broker)) == GENESIS


async def test_an_interrupted_init_goes_on_with_what_was_written() -> None:
    broker = broker_with()
    later = GENESIS.model_copy(update={"at": GENESIS.at + 1})
    assert await ensure_genesis(log_of(broker), later) == GENESIS
    assert len(broker.records) == 1


@pytest.mark.parametrize("lost", [Fate.LOST_ACK, Fate.NO_OFFSET, Fate.TWICE_SECOND])
async def test_a_lost_acknowledgement_of_the_genesis_is_looked_up(lost: Fate) -> None:
    broker = SimulatedBroker(fates={lost: 1.0})
    assert await ensure_genesis(log_of(broker), GENESIS) == GENESIS


async def test_a_broker_that_never_appends_ends_init() -> None:
    broker = SimulatedBroker(fates={Fate.NEVER: 1.0})
    with pytest.raises(AppendUnknown):
        await ensure_genesis(log_of(broker), GENESIS)


@pytest.mark.parametrize(
    "other", [{"ledger_id": "00000000-0000-4000-8000-00000000000f"}, {"partition": 4}, {"partitions": 16}]
)
async def test_another_ledgers_journal_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(WrongLedger):
        await ensure_genesis(log_of(broker_with()), GENESIS.model_copy(update=other))


async def test_a_log_start_above_0_is_refused() -> None:
    broker = broker_with(lease(1, "a"))
    broker.expire(1)
    with pytest.raises(JournalLoss, match="kept from offset 0"):
        await ensure_genesis(log_of(broker), GENESIS)


async def test_a_journal_that_begins_with_something_else_is_refused() -> None:
    broker = SimulatedBroker()
    broker.append(*lease(1, "a"))
    with pytest.raises(Corruption):
        await existing_genesis(log_of(broker))
