"""Folding a journal from its start, in any process: for rebuilds, checks, ``ledgerline journal --state-hash``."""

from __future__ import annotations

from dataclasses import dataclass

from engine.digest import state_hash
from streams.halts import Halt
from streams.journal.follower import FETCH_WAIT_S, Follower
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import Log
from streams.journal.reading import Position, ValidBlock
from streams.kafka import Partition
from streams.restore import State
from streams.topics import Topics


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """A partition's state at *seq*, as a hash over all of it: equal for every fold of the same events."""

    partition: int
    seq: int
    state_hash: str
    position: Position


async def fold_journal(kafka: str, prefix: str, partition: int, *, upto_seq: int | None = None) -> Folded:
    """Fold ``journal[partition]`` to its end as of now, or to the block that holds *upto_seq*.

    Raises: JournalHalt, Halt where the journal is broken or ends before *upto_seq*; LogUnavailable.
    """
    log = KafkaLog(kafka, Partition(Topics(prefix).journal, partition), "ledgerline-fold")
    try:
        return await fold_log(log, partition, upto_seq=upto_seq)
    finally:
        await log.close()


async def fold_log(log: Log, partition: int, *, upto_seq: int | None = None) -> Folded:
    """The same on any journal port."""
    follower = await Follower.begin(log, ledger_id=None, partition=partition)
    reader = follower.reader
    state = State(log.where, reader.genesis)
    end = await log.end_offset()
    while not follower.at_end(end) and (upto_seq is None or state.book.seq < upto_seq):
        for record in await follower.records(FETCH_WAIT_S):
            verdict = reader.read(record)
            if isinstance(verdict, ValidBlock):
                state.fold(verdict)
            if upto_seq is not None and state.book.seq >= upto_seq:
                break
    if upto_seq is not None and state.book.seq < upto_seq:
        raise Halt(f"expected seq {upto_seq}, the journal ends at {state.book.seq}", topic=log.where, offset=end)
    return Folded(partition=partition, seq=state.book.seq, state_hash=state_hash(state.book), position=reader.position)
