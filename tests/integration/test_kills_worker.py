"""A kill between every two numbered steps of the journal protocol (docs/design.md §3): taking, deciding, re-taking.

One partition for each gap. In each a first process leaves a block that nobody has seen published; a second one, a
subclass that kills itself in the gap, goes on; what it leaves behind is compared with what the gap promises; then one
new process takes over all partitions, and everything must be there exactly once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from ledgerline.verify import Report, verify
from schemas.config import DEFAULT_BUNDLE
from schemas.outcomes import Outcome
from sinks.postgres.sink import Sink
from streams.config_log import publish_bundle
from streams.kafka import Outgoing
from streams.membership import StaticMembership
from tests.kills.ledger import Booked, Ledger, Seen, failures_in, input_of, ledger, until
from tests.kills.processes import Ended, Running
from tests.kills.workers import GAPS, Share, Work, WorkerGap, work, work_until_killed, work_until_stuck

pytestmark = pytest.mark.integration
AT_ONCE = 4
"""Processes beside each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What happened in one partition."""

    killed: Ended
    before: Seen
    """When the killed process was started."""
    behind: Seen
    """When it was dead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aftermath:
    """What there is of one partition when the successor is done."""

    sent: int
    seen: Seen
    booked: Booked


@dataclass(frozen=True, kw_only=True, slots=True)
class Stories:
    """What happened in all of them."""

    of: dict[WorkerGap, Story]
    in_turn: list[Ended]
    """The owners of one more partition, killed in each of the gaps, one after the other."""
    after: list[Aftermath]
    """Of each partition."""
    predecessor: Ended
    successor: Ended
    report: Report


@pytest.fixture(scope="module")
def stories(kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Stories:
    return asyncio.run(tell(kafka, postgres, tmp_path_factory.mktemp("kills")))


async def tell(kafka: str, postgres: str, folder: Path) -> Stories:
    async with ledger(kafka, postgres, len(GAPS) + 1) as here:
        predecessor = await leave_unpublished(here, folder)
        strict = DEFAULT_BUNDLE.model_copy(update={"version": "kills-2"})
        await publish_bundle(kafka, here.prefix, orjson.dumps(strict.model_dump(mode="json", exclude_none=True)))
        for p in here.all:
            await here.send(p, third(here, p))
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(partition: int, gap: WorkerGap) -> Story:
            async with limit:
                return await kill_in(here, folder, partition, gap)

        in_turn, told = await asyncio.gather(
            kill_in_turn(here, folder), asyncio.gather(*(one(p, gap) for p, gap in enumerate(GAPS)))
        )
        successor, report = await go_on(here, folder)
        after = [
            Aftermath(sent=here.sent[p], seen=seen, booked=await here.booked(p))
            for p, seen in enumerate(await here.see_all())
        ]
        return Stories(
            of=dict(zip(GAPS, told, strict=True)),
            in_turn=in_turn,
            after=after,
            predecessor=predecessor,
            successor=successor,
            report=report,
        )


async def leave_unpublished(here: Ledger, folder: Path) -> Ended:
    """Every partition's journal ends with a block that was appended and never published."""
    for p in here.all:
        await here.send(p, first(here, p))
    running = Running(folder, "predecessor", work_until_stuck, work_of(here, here.all))
    try:
        await until(lambda: reached(here, here.topics.outcomes, [4] * here.partitions))
        begun = await here.ends(here.topics.journal)
        for p in here.all:
            await here.send(p, second(here, p))
        await until(lambda: reached(here, here.topics.journal, [begun[p] + 1 for p in sorted(here.all)]))
    finally:
        running.process.kill()
    return await running.ended()


async def kill_in(here: Ledger, folder: Path, partition: int, gap: WorkerGap) -> Story:
    before = await here.see(partition)
    killed = await kill(here, folder, partition, gap)
    return Story(killed=killed, before=before, behind=await here.see(partition))


async def kill_in_turn(here: Ledger, folder: Path) -> list[Ended]:
    """One process after the other, each with something new to decide."""
    killed: list[Ended] = []
    for turn, gap in enumerate(GAPS):
        await here.send(len(GAPS), more(here, len(GAPS), turn))
        killed.append(await kill(here, folder, len(GAPS), gap))
    return killed


async def kill(here: Ledger, folder: Path, partition: int, gap: WorkerGap) -> Ended:
    name = f"{partition} {gap.name}"
    return await Running(folder, name, work_until_killed, work_of(here, frozenset({partition})), gap).ended()


async def go_on(here: Ledger, folder: Path) -> tuple[Ended, Report]:
    """A new process takes over everything, and a sink books it."""
    for p in here.all:
        await here.send(p, fourth(here, p))
    successor = Running(folder, "successor", work, work_of(here, here.all))
    stop = asyncio.Event()
    sink = Sink(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn, membership=StaticMembership(here.all))
    sinking = asyncio.create_task(sink.run(stop))
    try:
        await until(here.all_answered)
        successor.terminate()
        ended = await successor.ended()
        await until(lambda: all_booked(here))
    finally:
        stop.set()
        await sinking
    return ended, await verify(here.kafka, here.prefix, here.dsn)


async def reached(here: Ledger, topic: str, ends: list[int]) -> bool:
    return all(end >= ends[p] for p, end in (await here.ends(topic)).items())


async def all_booked(here: Ledger) -> bool:
    return await here.stored() == await here.ends(here.topics.journal)


def work_of(here: Ledger, partitions: frozenset[int]) -> Work:
    return Work(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn, partitions=partitions)


# ---- what is asked of every partition: by the first, the stuck, the killed process and its successor


def first(here: Ledger, p: int) -> list[Outgoing]:
    payer, payee = here.payer(p), here.payee(p)
    return [
        here.request(payer, "open_account", "open", currency="EUR", tier="unlimited"),
        here.request(payee, "open_account", "open", currency="EUR", tier="unlimited"),
        here.request(payer, "deposit", "fund", amount_minor=1_000, currency="EUR", rail="sepa"),
        here.request(payer, "withdraw", "w-1", amount_minor=5, currency="EUR", rail="sepa"),
    ]


def second(here: Ledger, p: int) -> list[Outgoing]:
    return [
        here.request(here.payer(p), "withdraw", "w-2", amount_minor=7, currency="EUR", rail="sepa"),
        here.request(here.payer(p), "transfer", "t-2", amount_minor=30, currency="EUR", payee=here.payee(p)),
    ]


def third(here: Ledger, p: int) -> list[Outgoing]:
    again = here.request(here.payer(p), "withdraw", "w-3", amount_minor=11, currency="EUR", rail="sepa")
    return [
        here.request(here.payer(p), "deposit", "d-3", amount_minor=100, currency="EUR", rail="sepa"),
        again,
        again,
        here.request(here.payee(p), "withdraw", "too-much", amount_minor=10_000, currency="EUR", rail="sepa"),
        Outgoing(b"k", b"{"),
        here.request(here.payer(p), "transfer", "t-3", amount_minor=40, currency="EUR", payee=here.payee(p)),
    ]


def more(here: Ledger, p: int, turn: int) -> list[Outgoing]:
    return [
        here.request(here.payer(p), "deposit", f"d-turn-{turn}", amount_minor=2, currency="EUR", rail="sepa"),
        here.request(here.payer(p), "transfer", f"t-turn-{turn}", amount_minor=1, currency="EUR", payee=here.payee(p)),
    ]


def fourth(here: Ledger, p: int) -> list[Outgoing]:
    return [
        here.request(here.payer(p), "withdraw", "w-4", amount_minor=13, currency="EUR", rail="sepa"),
        here.request(here.payee(p), "transfer", "t-4", amount_minor=1, currency="EUR", payee=here.payer(p)),
    ]


BALANCES = (1_000 - 5 - 7 - 30 + 100 - 11 - 40 - 13 + 1, 30 + 40 - 1)


SAID = [
    *["accepted"] * 4,
    *["accepted"] * 2,
    *["accepted", "accepted", "accepted replayed", "declined insufficient_funds", "rejected malformed", "accepted"],
    *["accepted"] * 2,
]


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.name)
def test_a_worker_killed_between_two_steps_loses_and_doubles_nothing(gap: WorkerGap, stories: Stories) -> None:
    story, partition = stories.of[gap], GAPS.index(gap)
    assert story.killed.was_killed, f"it ended otherwise: {story.killed}"
    leaves_its_traces(gap, story)
    assert stories.successor.pid not in {story.killed.pid, stories.predecessor.pid}
    assert failures_in(stories.report, partition) == []
    outcomes = everything_is_there_once(stories.after[partition])
    assert stories.after[partition].booked.balances == BALANCES
    assert [said(outcome) for outcome in outcomes] == SAID


def leaves_its_traces(gap: WorkerGap, story: Story) -> None:
    """The kill hit where it should: what is in the topics behind it is what the steps before it have done."""
    before, behind = story.before, story.behind
    assert not set(before.last_block) & set(before.published), "the predecessor left an unpublished block"
    assert behind.leases - before.leases == gap.leases
    assert behind.blocks - before.blocks == gap.blocks
    published = set(behind.published[len(before.published) :])
    assert share(published, set(before.last_block)) == gap.again
    decided = set(behind.answers) - set(before.answers)
    assert share(published, decided) == gap.new
    assert published <= decided | set(before.last_block)


def share(published: set[int], of: set[int]) -> Share:
    match len(published & of):
        case 0:
            return "none"
        case found:
            return "all" if found == len(of) else "some"


def everything_is_there_once(after: Aftermath) -> list[Outcome]:
    """Every request was answered once and had one effect; readers of ``outcomes`` saw that in the order of seq.

    Returns what they saw.
    """
    outcomes = after.seen.first_occurrences
    assert [o.seq for o in outcomes] == sorted(after.seen.answers)
    assert list(dict.fromkeys(input_of(record) for record in after.seen.outcomes)) == list(range(after.sent))
    effective = [o for o in outcomes if o.status == "accepted" and not o.replayed and o.type != "open_account"]
    assert after.booked.entries == {str(o.request_id): 1 for o in effective}
    return outcomes


def said(outcome: Outcome) -> str:
    """In one line."""
    return " ".join(filter(None, (outcome.status, outcome.reason, "replayed" if outcome.replayed else None)))


def test_a_partition_whose_owners_are_killed_in_every_gap_in_turn_loses_and_doubles_nothing(stories: Stories) -> None:
    assert [killed for killed in stories.in_turn if not killed.was_killed] == []
    turns = len({killed.pid for killed in stories.in_turn})
    assert turns == len(GAPS)
    assert failures_in(stories.report, len(GAPS)) == []
    everything_is_there_once(stories.after[-1])
    assert stories.after[-1].booked.balances == (BALANCES[0] + 2 * turns - turns, BALANCES[1] + turns)


def test_the_ledger_is_proved_right_after_all_those_kills(stories: Stories) -> None:
    assert stories.report.ok, stories.report.to_plain()
    assert not any(line.skipped for line in stories.report.lines.values())
    assert stories.successor.code == 0, stories.successor.log
