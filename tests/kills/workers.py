"""Workers that die between two steps of docs/design.md §3, and the list of those gaps."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry

import streams.held
from ledgerline.processes import PostgresPositions, stopping
from streams.journal.framing import Headers
from streams.journal.kafka_log import KafkaLog
from streams.journal.log import AppendUnknown
from streams.journal.writer import Writer
from streams.kafka import Outgoing, Partition
from streams.metrics import WorkerMetrics
from streams.owner import Owner
from streams.publisher import KafkaPublisher
from streams.replies import Replies
from streams.services import Services
from streams.worker import Worker, WorkerOptions
from tests.kills.dying import Kill, die, dying

Share = Literal["none", "some", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """The first acknowledgement of this kind of journal record that never came. Not *arrives*: nor did the record."""

    kind: Literal["lease", "block"]
    arrives: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerGap:
    """Two steps of taking or deciding, the kill between them, and the traces that it must leave."""

    name: str
    of: Literal["owner", "writer", "publisher", "half a publication"]
    kill: Kill
    leases: int = 0
    blocks: int = 0
    again: Share = "none"
    """Of the outcomes that its predecessor left unpublished in the journal: how many it published."""
    new: Share = "none"
    """Of those that it decided itself: how many it published."""
    lost: Lost | None = None


def _owner(name: str, step: str, **more: object) -> WorkerGap:
    return WorkerGap(name=name, of="owner", kill=Kill(step=step), **more)  # type: ignore[arg-type]


_LOST, _NEVER = Lost(kind="block", arrives=True), Lost(kind="block", arrives=False)
_LEASE_LOST = Lost(kind="lease", arrives=True)


def _retake(name: str, kill: Kill, lost: Lost, leases: int, blocks: int) -> WorkerGap:
    again: Share = "none" if lost.kind == "lease" else "all"
    return WorkerGap(name=name, of="writer", kill=kill, lost=lost, leases=leases, blocks=blocks, again=again)


GAPS: Final[Sequence[WorkerGap]] = (
    # Taking: the owner's steps 1 to 4, the writer's 1 and 2.
    _owner("1-2 witnesses read, journal not", "_witnesses"),
    WorkerGap(name="2 journal read, no lease", of="writer", kill=Kill(step="_check_witnesses")),
    WorkerGap(name="2 lease appended, not folded", of="writer", kill=Kill(step="_send_lease"), leases=1),
    WorkerGap(name="2 lease folded, not owner", of="writer", kill=Kill(step="_fold_lease"), leases=1),
    _owner("2-3 leased, config not read", "_take", leases=1),
    _owner("3-4 config read, nothing published again", "_read_config", leases=1),
    WorkerGap(
        name="4 half of the block published again",
        of="half a publication",
        kill=Kill(step="publish"),
        leases=1,
        again="some",
    ),
    _owner("4-5 published again, inputs not read", "_publish_again", leases=1, again="all"),
    # One batch: the owner's steps 5 to 9, the writer's 3 to 5.
    WorkerGap(
        name="5-6 requests read, not decided",
        of="owner",
        kill=Kill(step="_decide", side="front"),
        leases=1,
        again="all",
    ),
    _owner("6-7 decided, not appended", "_decide", leases=1, again="all"),
    WorkerGap(
        name="7 block appended, not folded", of="writer", kill=Kill(step="_send_block"), leases=1, blocks=1, again="all"
    ),
    _owner("7-8 block valid, not published", "_append", leases=1, blocks=1, again="all"),
    WorkerGap(
        name="8 half of the block published",
        of="half a publication",
        kill=Kill(step="publish", call=2),
        leases=1,
        blocks=1,
        again="all",
        new="some",
    ),
    WorkerGap(
        name="8 outcomes published, replies not offered",
        of="publisher",
        kill=Kill(step="publish", call=2),
        leases=1,
        blocks=1,
        again="all",
        new="all",
    ),
    _owner("8-9 published, not done", "_publish", leases=1, blocks=1, again="all", new="all"),
    _owner("9-5 done, next requests not read", "_done", leases=1, blocks=1, again="all", new="all"),
    # Re-taking, the writer's step 6: the acknowledgement of a lease was lost, or that of a block.
    _retake(
        "6 acknowledgement of a lease lost, no other lease",
        Kill(step="_read_to_end", side="front", call=2),
        _LEASE_LOST,
        1,
        0,
    ),
    _retake(
        "6 acknowledgement of a lease lost, another one appended", Kill(step="_send_lease", call=2), _LEASE_LOST, 2, 0
    ),
    _retake(
        "6 acknowledgement of a block lost, no new lease",
        Kill(step="_lease_until_answered", side="front", call=2),
        _LOST,
        1,
        1,
    ),
    _retake("6 block there, new lease appended, not folded", Kill(step="_send_lease", call=2), _LOST, 2, 1),
    _retake("6 block there, new lease folded, not compared", Kill(step="_compare", side="front"), _LOST, 2, 1),
    _retake("6 block there, compared, not published", Kill(step="_compare"), _LOST, 2, 1),
    _retake(
        "6 block never arrived, no new lease", Kill(step="_lease_until_answered", side="front", call=2), _NEVER, 1, 0
    ),
    _retake("6 block never arrived, new lease appended, not folded", Kill(step="_send_lease", call=2), _NEVER, 2, 0),
    _retake("6 block never arrived, new lease folded, not compared", Kill(step="_compare", side="front"), _NEVER, 2, 0),
    _retake("6 block never arrived, compared, not sent again", Kill(step="_compare"), _NEVER, 2, 0),
    _retake("6 block never arrived, sent again, not folded", Kill(step="_send_block", call=2), _NEVER, 2, 1),
)


class LossyLog(KafkaLog):
    """A journal of which one acknowledgement is lost."""

    def __init__(self, kafka: str, partition: Partition, lost: Lost) -> None:
        super().__init__(kafka, partition, "ledgerline-kills")
        self._lost: Lost | None = lost

    async def append(self, headers: Headers, value: bytes) -> int:
        lost = self._lost
        if lost is None or headers[0] != ("kind", lost.kind.encode()):
            return await super().append(headers, value)
        self._lost = None
        if lost.arrives:
            await super().append(headers, value)
        raise AppendUnknown(f"{self.where}: the test lost the acknowledgement of a {lost.kind}")


class HalfPublisher(KafkaPublisher):
    """Dies when the first half of a publication is acknowledged."""

    def __init__(self, kafka: str, call: int, marker: Path) -> None:
        super().__init__(kafka)
        self._calls_left, self._marker = call, marker

    async def publish(self, to: Partition, records: Sequence[Outgoing]) -> None:
        self._calls_left -= 1
        if self._calls_left:
            await super().publish(to, records)
            return
        assert len(records) > 1
        await super().publish(to, records[: len(records) // 2])
        die(self._marker)


class StuckPublisher(KafkaPublisher):
    """Publishes one block of each partition and never comes to the second."""

    def __init__(self, kafka: str) -> None:
        super().__init__(kafka)
        self._served: set[Partition] = set()

    async def publish(self, to: Partition, records: Sequence[Outgoing]) -> None:
        if to in self._served:
            await asyncio.Event().wait()
        self._served.add(to)
        await super().publish(to, records)


class StuckWorker(Worker):
    """A worker that leaves an unpublished block in each of its partitions, once somebody kills it."""

    def _wire(self, ledger_id: str, publisher: KafkaPublisher, replies: Replies) -> Services:  # noqa: ARG002
        return super()._wire(ledger_id, StuckPublisher(self._options.kafka), replies)


class DyingWorker(Worker):
    """A worker of one partition whose process dies in *gap*."""

    def __init__(self, options: WorkerOptions, dsn: str, gap: WorkerGap, marker: Path) -> None:
        super().__init__(options, WorkerMetrics(CollectorRegistry()), PostgresPositions(dsn))
        self._gap, self._marker = gap, marker

    def new_owner(self, partition: int, services: Services) -> Owner:
        gap, marker = self._gap, self._marker
        match gap.of:
            case "owner":
                return dying(Owner, gap.kill, marker)(partition, services)
            case "writer":
                made_in: Any = streams.held
                assert made_in.Writer is Writer
                made_in.Writer = dying(Writer, gap.kill, marker)
                return Owner(partition, services)
            case "publisher" | "half a publication":
                return Owner(partition, services)

    def _wire(self, ledger_id: str, publisher: KafkaPublisher, replies: Replies) -> Services:
        gap, kafka = self._gap, self._options.kafka
        if gap.of == "publisher":
            publisher = dying(KafkaPublisher, gap.kill, self._marker)(kafka)
        elif gap.of == "half a publication":
            publisher = HalfPublisher(kafka, gap.kill.call, self._marker)
        services = super()._wire(ledger_id, publisher, replies)
        lost = gap.lost
        if lost is None:
            return services
        journal = services.topics.journal
        return dataclasses.replace(services, open_log=lambda p: LossyLog(kafka, Partition(journal, p), lost))


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Which partitions of which ledger a worker owns."""

    kafka: str
    prefix: str
    dsn: str
    partitions: frozenset[int]

    @property
    def options(self) -> WorkerOptions:
        return WorkerOptions(kafka=self.kafka, prefix=self.prefix, dev=True, partitions=self.partitions)


def work_until_killed(here: Work, gap: WorkerGap, marker: Path) -> int:
    """Run a worker that dies in *gap*."""
    return asyncio.run(_run(DyingWorker(here.options, here.dsn, gap, marker)))


def work_until_stuck(here: Work, _marker: Path) -> int:
    """Run a worker that publishes its first block of each partition only."""
    return asyncio.run(_run(StuckWorker(here.options, WorkerMetrics(CollectorRegistry()))))


def work(here: Work, _marker: Path) -> int:
    """Run a worker as it is in production, until SIGTERM."""
    return asyncio.run(_run(Worker(here.options, WorkerMetrics(CollectorRegistry()), PostgresPositions(here.dsn))))


async def _run(worker: Worker) -> int:
    with stopping(worker.stop):
        return await worker.run()
