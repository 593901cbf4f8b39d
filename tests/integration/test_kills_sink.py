"""A kill between every two steps of the sink (docs/design.md §10): take the row, position, COPY, deltas, COMMIT.

One partition for each gap, two where they share the transaction. A sink subclass kills itself there; what it saw in its
own transaction and what others see behind it are compared with what the gap promises; then one new process writes all
partitions to their ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledgerline.verify import Report, verify
from sinks.postgres.session import session
from streams.kafka import Outgoing
from tests.kills.ledger import Booked, Ledger, Seen, failures_in, ledger, until
from tests.kills.processes import Ended, Running
from tests.kills.sinks import GAPS, PLACES, Booking, SinkGap, Stored, book, book_until_killed, seen, stored
from tests.kills.workers import Work, work

pytestmark = pytest.mark.integration
AT_ONCE = 4
"""Processes beside each other."""

Asked = Callable[[Ledger, int], list[Outgoing]]
"""What is asked of a partition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What happened in the partitions of one gap."""

    killed: Ended
    before: list[Stored]
    """When the killed process was started."""
    behind: list[Stored]
    """When it was dead."""
    bound: bool
    """Whether the schema belonged to the ledger then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stories:
    """What happened in all of them, and what there is in the end, by partition."""

    of: dict[SinkGap, Story]
    successor: Ended
    seen: list[Seen]
    booked: list[Booked]
    stored: list[Stored]
    report: Report


@pytest.fixture(scope="module")
def stories(kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Stories:
    return asyncio.run(tell(kafka, postgres, tmp_path_factory.mktemp("kills")))


async def tell(kafka: str, postgres: str, folder: Path) -> Stories:
    async with ledger(kafka, postgres, sum(gap.partitions for gap in GAPS)) as here:
        of: dict[SinkGap, Story] = {}
        worker = Running(
            folder, "worker", work, Work(kafka=kafka, prefix=here.prefix, dsn=here.dsn, partitions=here.all)
        )
        try:
            await decide(here, first)
            await kill_in(here, folder, of, (gap for gap in GAPS if gap.earlier == "schema not bound"))
            before = [p for gap, places in PLACES.items() if gap.earlier == "written before" for p in places]
            await run(here, folder, "predecessor", before)
            await decide(here, second)
        finally:
            worker.terminate()
        assert (await worker.ended()).code == 0
        await kill_in(here, folder, of, (gap for gap in GAPS if gap not in of))
        successor = await run(here, folder, "successor", here.all)
        async with session(here.dsn) as connection:
            return Stories(
                of=of,
                successor=successor,
                seen=await here.see_all(),
                booked=[await here.booked(p) for p in range(here.partitions)],
                stored=[await stored(connection, p) for p in range(here.partitions)],
                report=await verify(kafka, here.prefix, here.dsn),
            )


async def kill_in(here: Ledger, folder: Path, of: dict[SinkGap, Story], gaps: Iterable[SinkGap]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(gap: SinkGap) -> None:
        places = PLACES[gap]
        async with limit, session(here.dsn) as connection:
            before = [await stored(connection, p) for p in places]
            killed = await Running(folder, str(places[0]), book_until_killed, booking(here, places), gap).ended()
            behind = [await stored(connection, p) for p in places]
            bound = await connection.fetchval("SELECT count(*) = 1 FROM ledger")
        of[gap] = Story(killed=killed, before=before, behind=behind, bound=bound)

    await asyncio.gather(*map(one, gaps))


async def run(here: Ledger, folder: Path, name: str, partitions: Iterable[int]) -> Ended:
    """A sink in a process of its own, until *partitions* are written to their ends."""
    sink, numbers = Running(folder, name, book, booking(here, partitions)), frozenset(partitions)

    async def written() -> bool:
        ends, found = await here.ends(here.topics.journal), await here.stored()
        return all(found.get(p) == ends[p] for p in numbers)

    await until(written)
    sink.terminate()
    return await sink.ended()


async def decide(here: Ledger, asked: Asked) -> None:
    """Have requests answered in every partition."""
    for p in here.all:
        await here.send(p, asked(here, p))

    async def answered() -> bool:
        return await here.ends(here.topics.outcomes) == dict(enumerate(here.sent))

    assert await until(answered)


def booking(here: Ledger, partitions: Iterable[int]) -> Booking:
    return Booking(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn, partitions=frozenset(partitions))


def first(here: Ledger, p: int) -> list[Outgoing]:
    return [
        here.request(here.payer(p), "open_account", "open", currency="EUR", tier="unlimited"),
        here.request(here.payer(p), "deposit", "fund", amount_minor=1_000, currency="EUR", rail="sepa"),
        here.request(here.payer(p), "withdraw", "w-1", amount_minor=5, currency="EUR", rail="sepa"),
    ]


def second(here: Ledger, p: int) -> list[Outgoing]:
    return [
        here.request(here.payee(p), "open_account", "open-too", currency="EUR", tier="unlimited"),
        here.request(here.payer(p), "transfer", "t-2", amount_minor=30, currency="EUR", payee=here.payee(p)),
        here.request(here.payee(p), "withdraw", "too-much", amount_minor=31, currency="EUR", rail="sepa"),
        here.request(here.payer(p), "withdraw", "w-2", amount_minor=7, currency="EUR", rail="sepa"),
    ]


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.name)
def test_a_sink_killed_between_two_steps_leaves_no_gap_and_no_duplicate(gap: SinkGap, stories: Stories) -> None:
    story, places = stories.of[gap], PLACES[gap]
    assert story.killed.was_killed, f"it ended otherwise: {story.killed}"
    leaves_its_traces(gap, story, [stories.stored[p] for p in places])
    assert stories.successor.pid != story.killed.pid
    for partition in places:
        assert failures_in(stories.report, partition) == []
        assert stories.stored[partition].seq == max(stories.seen[partition].answers)
        assert stories.booked[partition] == Booked(
            entries={"fund": 1, "w-1": 1, "t-2": 1, "w-2": 1}, balances=(1_000 - 5 - 30 - 7, 30)
        )


def leaves_its_traces(gap: SinkGap, story: Story, in_the_end: list[Stored]) -> None:
    """The kill hit where it should: inside the transaction the steps before it are done, outside all or nothing is."""
    assert story.bound
    for before, behind, after in zip(story.before, story.behind, in_the_end, strict=True):
        assert before.sink_epoch == (1 if gap.earlier == "written before" else None)
        assert behind.sink_epoch == gap.sink_epoch
        assert behind[1:] == (after if gap.committed else before)[1:]
        assert after.seq > before.seq
    if gap.inside is not None:
        before, after, inside = story.before[0], in_the_end[0], seen(story.killed.note)
        expected = {name: after if name in gap.inside else before for name in "pec"}
        assert inside[1:] == (expected["p"].seq, expected["e"].entries, expected["c"].credited)


def test_the_ledger_is_proved_right_after_all_those_kills(stories: Stories) -> None:
    assert stories.report.ok, stories.report.to_plain()
    assert not any(line.skipped for line in stories.report.lines.values())
    assert stories.successor.code == 0, stories.successor.log
