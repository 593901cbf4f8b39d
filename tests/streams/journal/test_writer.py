"""The writer on a broker that does, one at a time, each of the things that Kafka may do."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from streams.journal.errors import Diverged, Fenced, JournalLoss
from streams.journal.framing import BlockBody, BlockHeaders, BlockTooLarge, Headers, LeaseHeaders, decode_headers
from streams.journal.log import LogUnavailable
from streams.journal.reading import Position, ValidBlock
from streams.journal.simulated import Fate, SimulatedBroker, SimulatedLog
from streams.journal.writer import Owned, Writer, chain_witness
from tests.streams.journal.building import AT, WHERE, body, broker_with, follower, genesis, lease, numbers

TOKENS = itertools.count(1)


class Log(SimulatedLog):
    """Lets others act just before or just after an append arrives."""

    before: Callable[[], Awaitable[object]] | None = None
    behind: Callable[[], Awaitable[object]] | None = None

    async def append(self, headers: Headers, value: bytes) -> int:
        before, self.before, behind, self.behind = self.before, None, self.behind, None
        if before is not None:
            await before()
        try:
            return await super().append(headers, value)
        finally:
            if behind is not None:
                await behind()


class Worker:
    """A writer, the numbers of the events in its state, and what it has published."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self.broker, self.log = broker, Log(broker, where=WHERE)
        self.state: list[int] = []
        self.published: list[int] = []
        self.waited_s: list[float] = []

    async def start(self, position: Position | None = None) -> Writer:
        self.writer = Writer(
            await follower(self.log, position),
            owner="worker",  # all have this name
            fold=lambda block: self.state.extend(numbers(block)),
            token=lambda: next(TOKENS).to_bytes(16, "big"),
            chance=lambda: 1.0,
            sleep=self.sleep,
        )
        return self.writer

    async def sleep(self, delay_s: float) -> None:
        self.waited_s.append(delay_s)
        self.broker.fates = {Fate.NORMAL: 1.0}
        self.broker.unavailable = 0.0

    async def take(self) -> Owned:
        owned = await self.writer.take()
        for block in owned.unpublished:
            self.published += numbers(block)
        self.writer.published(owned.position.seq)
        return owned

    async def append(self, *content: int) -> Position:
        self.state += content
        position = await self.writer.append(body(*content), count=len(content), at=AT + content[-1])
        self.published += content
        self.writer.published(position.seq)
        return position


async def worker(broker: SimulatedBroker) -> Worker:
    made = Worker(broker)
    await made.start()
    return made


async def owner(broker: SimulatedBroker) -> Worker:
    made = await worker(broker)
    await made.take()
    return made


async def journal(broker: SimulatedBroker) -> list[int]:
    """What a reader from the start finds."""
    broker.fates, broker.unavailable = {Fate.NORMAL: 1.0}, 0.0
    made = await worker(broker)
    async for record in made.writer._follower.below(broker.end):
        made.writer._read(record)
    return made.state


def fate(broker: SimulatedBroker, what: Fate) -> None:
    """Of the requests until somebody waits."""
    broker.fates = {what: 1.0}


def leases(broker: SimulatedBroker) -> list[LeaseHeaders]:
    found = [decode_headers(r.headers) for r in broker.records]
    return [h for h in found if isinstance(h, LeaseHeaders)]


async def test_a_writer_appends_blocks_and_reads_nothing_in_the_common_case() -> None:
    broker = broker_with()
    a = await owner(broker)
    fetches = 0
    fetch = a.log.fetch

    async def counted(start: int, wait_s: float) -> Any:
        nonlocal fetches
        fetches += 1
        return await fetch(start, wait_s)

    a.log.fetch = counted  # type: ignore[method-assign]  # counts
    for n in (1, 2, 3):
        await a.append(n, n)
    assert fetches == 0
    assert (a.writer.position.seq, a.writer.position.at) == (6, AT + 3)
    assert await journal(broker) == a.state == [1, 1, 2, 2, 3, 3]
    reader_position = (await worker_at_end(broker)).writer.position
    assert reader_position == a.writer.position


async def worker_at_end(broker: SimulatedBroker) -> Worker:
    made = await worker(broker)
    async for record in made.writer._follower.below(broker.end):
        made.writer._read(record)
    return made


async def test_of_two_candidates_at_the_same_end_one_owns_the_partition_and_the_other_steps_down() -> None:
    broker = broker_with()
    a, b = await worker(broker), await worker(broker)
    a.log.before = b.take  # both have read the same end
    with pytest.raises(Fenced, match="epoch 1"):
        await a.take()
    await b.append(1)
    with pytest.raises(RuntimeError, match="warm"):
        await a.append(9)
    assert await journal(broker) == [1]


async def test_the_loser_of_a_race_is_still_warm_and_owns_the_partition_later() -> None:
    broker = broker_with()
    a, b = await worker(broker), await worker(broker)
    a.log.before = b.take
    with pytest.raises(Fenced):
        await a.take()
    await b.append(1)
    await b.append(2)
    owned = await a.take()
    assert a.state == [1, 2]
    assert (owned.position.seq, a.published) == (2, [2])  # the last block may not have been published
    await a.append(3)
    assert await journal(broker) == [1, 2, 3]


async def test_a_lease_whose_acknowledgement_was_lost_is_not_adopted_even_under_the_same_owner_name() -> None:
    broker = broker_with()
    a = await worker(broker)
    fate(broker, Fate.LOST_ACK)
    await a.take()
    first, second = leases(broker)
    assert (first.epoch, second.epoch) == (1, 2)
    assert first.token != second.token
    assert a.writer.position.token == second.token
    assert (a.writer.retakes, a.waited_s, a.writer.trouble) == (1, [0.1], None)


async def test_a_lost_lease_of_mine_followed_by_a_namesakes_lease_makes_me_no_owner() -> None:
    broker = broker_with()
    a, b = await worker(broker), await worker(broker)
    fate(broker, Fate.LOST_ACK)

    async def take_b() -> None:
        broker.fates = {Fate.NORMAL: 1.0}
        await b.take()

    a.log.behind = take_b
    await a.take()  # sees b's lease and takes a higher one
    assert [h.epoch for h in leases(broker)] == [1, 2, 3]
    b.state.append(5)
    with pytest.raises(Fenced, match="epoch 3"):
        await b.writer.append(body(5), count=1, at=AT + 5)
    assert await journal(broker) == []


@pytest.mark.parametrize("twice", [Fate.TWICE_FIRST, Fate.TWICE_SECOND])
async def test_a_block_delivered_twice_counts_once_whichever_copy_is_acknowledged(twice: Fate) -> None:
    broker = broker_with()
    a = await owner(broker)
    fate(broker, twice)
    assert (await a.append(1)).seq == 1
    fate(broker, Fate.NORMAL)
    await a.append(2)
    assert a.state == await journal(broker) == [1, 2]
    assert a.writer.duplicates == 1
    assert a.published == [1, 2]


@pytest.mark.parametrize("lost", [Fate.LOST_ACK, Fate.NO_OFFSET])
async def test_a_block_whose_acknowledgement_was_lost_is_found_and_not_appended_again(lost: Fate) -> None:
    broker = broker_with()
    a = await owner(broker)
    fate(broker, lost)
    a.log.behind = lambda: a.sleep(0)  # only the block is hit
    assert (await a.append(1)).seq == 1
    await a.append(2)
    assert a.state == await journal(broker) == [1, 2]
    assert (a.writer.epoch, a.writer.retakes, a.writer.duplicates) == (2, 1, 0)


async def test_a_block_that_never_arrived_is_sent_again_with_the_same_bytes_under_a_new_lease() -> None:
    broker = broker_with()
    a = await owner(broker)
    fate(broker, Fate.NEVER)
    assert (await a.append(1, 2)).seq == 2
    assert a.state == await journal(broker) == [1, 2]
    assert (a.writer.retakes, a.writer.epoch) == (1, 2)


async def test_leases_that_work_and_blocks_that_do_not_back_off_too() -> None:
    broker = broker_with()
    a = await owner(broker)
    answers = iter([Fate.NEVER, Fate.NORMAL] * 8)
    broker.fate = lambda: next(answers, Fate.NORMAL)  # type: ignore[method-assign]  # block, lease, block, lease, …
    await a.append(1)
    assert a.waited_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert a.state == await journal(broker) == [1]


async def test_a_block_that_arrives_late_after_its_second_sending_is_stale() -> None:
    broker = broker_with()
    a = await owner(broker)
    fate(broker, Fate.LATE)
    a.log.behind = lambda: a.sleep(0)
    await a.append(1)
    broker.deliver()
    await a.append(2)
    assert a.state == await journal(broker) == [1, 2]
    assert a.writer.stale == 1


async def test_the_bytes_are_remembered_over_several_retakes() -> None:
    broker = broker_with()
    a = await owner(broker)
    answers = iter([Fate.NEVER, Fate.LOST_ACK, Fate.NORMAL, Fate.NEVER, Fate.NORMAL, Fate.LOST_ACK, Fate.NORMAL])
    broker.fate = lambda: next(answers, Fate.NORMAL)  # type: ignore[method-assign]  # block, lease, lease, block, …
    await a.append(1, 2, 3)
    assert a.state == await journal(broker) == [1, 2, 3]
    assert (await a.append(4)).seq == 4


async def test_a_winning_lease_in_front_of_my_block_fences_me_and_my_block_is_stale() -> None:
    broker = broker_with()
    a, b = await owner(broker), await worker(broker)
    a.log.before = b.take
    with pytest.raises(Fenced, match="by 'worker'"):
        await a.append(1)
    with pytest.raises(RuntimeError, match="dead"):
        await a.writer.take()
    await b.append(2)
    assert await journal(broker) == [2]


async def test_a_zombies_late_block_is_stale_for_the_new_owner() -> None:
    broker = broker_with()
    a, b = await owner(broker), await worker(broker)
    fate(broker, Fate.LATE)

    async def take_over() -> None:
        broker.fates = {Fate.NORMAL: 1.0}
        await b.take()
        await b.append(2)
        broker.deliver()

    a.log.behind = take_over
    with pytest.raises(Diverged):
        await a.append(1)
    c = await owner(broker)
    assert (c.state, c.writer.stale) == ([2], 1)
    assert await journal(broker) == [2]


async def test_a_block_found_after_the_owner_died_is_published_by_the_next_one() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.append(1)
    a.state.append(2)
    await a.writer.append(body(2), count=1, at=AT + 2)  # and dies before publishing
    b = await worker(broker)
    await b.take()
    assert b.published == [2]
    assert b.state == [1, 2]


async def test_a_new_owner_from_a_snapshot_at_the_end_finds_the_unpublished_block_in_the_log() -> None:
    broker = broker_with()
    a = await owner(broker)
    for n in range(1, 6):
        await a.append(n)
    b = Worker(broker)
    await b.start(a.writer.position)
    await b.take()
    assert (b.state, b.published) == ([], [5])


async def test_the_next_block_waits_for_the_publication_and_says_how_far_it_got() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.writer.append(body(1, 2), count=2, at=AT)
    with pytest.raises(RuntimeError, match="must be published"):
        await a.writer.append(body(3), count=1, at=AT)
    a.writer.published(2)
    await a.writer.append(body(3), count=1, at=AT)
    last = decode_headers(broker.records[-1].headers)
    assert isinstance(last, BlockHeaders)
    assert last.published_through == 2
    with pytest.raises(RuntimeError, match="journal ends at 3"):
        a.writer.published(4)


async def test_a_released_partition_is_taken_again_without_a_restore_if_nothing_moved() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.append(1)
    a.writer.release()
    with pytest.raises(RuntimeError, match="warm"):
        await a.append(2)
    a.state.remove(2)
    assert (await a.take()).unpublished == ()
    await a.append(2)
    assert a.state == await journal(broker) == [1, 2]


async def test_an_oversized_block_is_refused_before_sending_and_changes_nothing() -> None:
    broker = broker_with()
    a = await owner(broker)
    end, position = broker.end, a.writer.position
    with pytest.raises(BlockTooLarge):
        await a.writer.append(BlockBody(b"[]", bytes(4 * 1024 * 1024)), count=1, at=AT)
    with pytest.raises(BlockTooLarge):
        await a.writer.append(body(1), count=2_001, at=AT)
    assert (broker.end, a.writer.position) == (end, position)
    await a.append(1)
    assert await journal(broker) == [1]


async def test_a_lower_acknowledged_offset_is_journal_loss() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.append(1)
    broker.recreate()
    with pytest.raises(JournalLoss, match="cut or recreated"):
        await a.append(2)


async def test_a_tail_that_was_lost_and_replaced_is_journal_loss_for_the_writer_behind_it() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.append(1)
    b = await worker_at_end(broker)
    broker.cut(2)
    await (await owner(broker)).append(5)  # lease and block at other places
    with pytest.raises(JournalLoss):
        await b.take()


async def test_my_own_lost_tail_replaced_at_the_same_offset_is_noticed_when_the_gap_is_read() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.append(1)
    broker.cut(broker.end - 1)
    broker.append(*lease(1, "x"))  # in the place of the block
    broker.mark()
    with pytest.raises(JournalLoss, match="that I have read there"):
        await a.append(2)


async def test_another_valid_block_of_my_token_is_journal_loss() -> None:
    broker = broker_with()
    a = await owner(broker)
    a.state.append(1)
    twin = Worker(broker)
    await twin.start(a.writer.position)
    twin.writer._phase = a.writer._phase  # as if the token had been drawn twice
    a.log.before = lambda: twin.append(9)
    with pytest.raises(JournalLoss, match="only the block that I sent"):
        await a.append(1)


async def test_io_trouble_backs_off_without_end_and_says_why() -> None:
    broker = broker_with()
    a = await worker(broker)

    async def sleep(delay_s: float) -> None:
        a.waited_s.append(delay_s)
        assert a.writer.trouble is not None
        if len(a.waited_s) == 10:
            broker.unavailable = 0.0

    a.writer._sleep = sleep
    broker.unavailable = 1.0
    await a.take()
    assert a.waited_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert a.writer.trouble is None


async def test_trouble_while_the_unpublished_blocks_are_looked_up_is_forgotten_when_they_are_found() -> None:
    broker = broker_with()
    a = await owner(broker)
    a.state.append(1)
    await a.writer.append(body(1), count=1, at=AT + 1)  # and its publication is not acknowledged
    a.writer.release()
    look_up, failures = a.writer._block_with, [LogUnavailable("no answer")]

    async def fails_once(seq: int) -> ValidBlock:
        if failures:
            raise failures.pop()
        return await look_up(seq)

    a.writer._block_with = fails_once  # type: ignore[method-assign]
    owned = await a.writer.take()
    assert [numbers(block) for block in owned.unpublished] == [[1]]
    assert a.writer.trouble is None


async def test_gaps_in_offsets_mean_nothing() -> None:
    broker = broker_with()
    a = await owner(broker)
    for n in (1, 2, 3):
        broker.mark()
        await a.append(n)
    broker.mark()
    b = await owner(broker)
    await b.append(4)
    assert await journal(broker) == b.state == [1, 2, 3, 4]


async def test_a_witness_ahead_of_the_journal_or_with_other_content_is_journal_loss() -> None:
    broker = broker_with()
    a = await owner(broker)
    await a.append(1)
    first = a.writer.position
    await a.append(2)
    seen = a.writer.position
    good = [chain_witness("the sink", first.seq, first.chain), chain_witness("a snapshot", seen.seq, seen.chain)]
    await (await worker(broker)).writer.take(good)
    with pytest.raises(JournalLoss, match="seq 3, seen by the sink"):
        await (await worker(broker)).writer.take([chain_witness("the sink", 3, seen.chain)])
    with pytest.raises(JournalLoss, match="what a snapshot holds"):
        await (await worker(broker)).writer.take([*good, chain_witness("a snapshot", 1, seen.chain)])


async def test_a_fold_that_fails_kills_the_writer() -> None:
    broker = broker_with()
    await (await owner(broker)).append(1)
    a = await worker(broker)

    def broken(_: object) -> None:
        raise ZeroDivisionError

    a.writer._fold = broken
    with pytest.raises(ZeroDivisionError):
        await a.take()
    with pytest.raises(RuntimeError, match="dead"):
        await a.take()


async def test_a_second_genesis_copy_does_not_disturb_a_writer() -> None:
    broker = broker_with(genesis())
    a = await owner(broker)
    await a.append(1)
    broker.append(*genesis())
    await a.append(2)
    assert await journal(broker) == [1, 2]
    assert a.writer.duplicates == 2
