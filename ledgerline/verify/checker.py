"""The order of the checker's work: ends before what depends on them, so that it may run beside a working ledger."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from ledgerline.verify.bundles import Bundles
from ledgerline.verify.comparison import Comparison
from ledgerline.verify.feeds import Feed, KafkaFeed, Ranges
from ledgerline.verify.inputs import Inputs
from ledgerline.verify.rebuild import check_rebuild
from ledgerline.verify.report import Invariant, OnProgress, Place, Progress, Report
from ledgerline.verify.told import Published, Replies
from ledgerline.verify.walk import Row, Walk
from schemas.events import decode_genesis
from streams.kafka import Partition, Record, UnknownTopic
from streams.topics import Topics

SCHEMA: Final = "ledgerline"
Ends = dict[Partition, int]


async def verify(
    kafka: str,
    prefix: str,
    dsn: str | None,
    *,
    schema: str = SCHEMA,
    rebuild: bool = True,
    progress: OnProgress | None = None,
) -> Report:
    """Prove the invariants of docs/design.md §13 from the topics of *prefix* and the Postgres of *dsn* alone.

    Works on a running system: whatever is appended after the ends were taken is left out. A problem in one partition
    hides nothing in another. *rebuild* also folds every journal twice in processes of their own (I10). Without *dsn*
    I11 is not checked. Memory: about 0.5 KiB per event, and whatever one fetch brings.

    Raises KafkaFailure, OSError or asyncpg.PostgresError where a server does not answer; UnknownTopic where there is no
    ledger. What is wrong with the ledger is in the report, never an exception.
    """
    began = time.monotonic()
    feed = await KafkaFeed.open(kafka)
    try:
        checker = Checker(Topics(prefix), feed, progress)
        await checker.read(dsn, schema)
        report = checker.report
        if rebuild:
            rebuilding = check_rebuild(report, kafka, prefix, checker.walks, checker.progress)
            await asyncio.gather(checker.compare(), rebuilding)
        else:
            report.skip(Invariant.I10, "not asked for")
            await checker.compare()
    finally:
        await feed.close()
    report.seconds = time.monotonic() - began
    return report


class Checker:
    """One run. Mutable, used once.

    1. Journal ends: what blocks below them claim as published was published before the next step.
    2. Ends of ``outcomes`` and the snapshot of Postgres: everything in them was in the journal before it.
    3. Journal ends again: walk every journal to them, comparing Postgres on the way; this finds the reply topics.
    4. Ends of the reply topics, then the journals' a third time: walk on.
    5. Inputs up to the positions, ``outcomes`` and reply topics up to their ends, against the walks.
    """

    def __init__(self, topics: Topics, feed: Feed, progress: OnProgress | None = None) -> None:
        self.report = Report()
        self.walks: dict[int, Walk] = {}
        self.progress: OnProgress = progress or _silent
        self._topics = topics
        self._feed = feed
        self._bundles = Bundles()
        self._config_read = 0
        self._postgres: Comparison | None = None
        self._told: Ends = {}  # of outcomes and of the reply topics
        self._lags: list[str] = []

    async def read(self, dsn: str | None, schema: str) -> None:
        """Do steps 1 to 4: everything that the journals say, and Postgres."""
        await self._know()
        journals = self._partitions(self._topics.journal)
        outcomes = self._partitions(self._topics.outcomes)
        first = await self._feed.ends(journals)
        for partition, walk in self.walks.items():
            walk.claims_below = first[journals[partition]]
        self._told = await self._feed.ends(outcomes)
        self._postgres = await Comparison.open(self.report, dsn, schema)
        try:
            starts, ends = await self._feed.starts(journals), await self._feed.ends(journals)
            await self._walk(starts, ends)
            self._one_ledger()
            if self._postgres is not None:
                self._lags.append(await self._postgres.finish(self.walks, ends))
        finally:
            if self._postgres is not None:
                await self._postgres.close()
        postgres, self._postgres = self._postgres, None
        self._told |= await self._reply_ends()
        await self._walk(ends, await self._feed.ends(journals))
        for walk in self.walks.values():
            walk.finish()
        if postgres is not None:
            postgres.strange(self.walks)

    async def compare(self) -> None:
        """Do step 5; the report is then complete but for I10."""
        await self._compare_inputs()
        await self._compare_outcomes({p: end for p, end in self._told.items() if p.topic == self._topics.outcomes})
        await self._compare_replies({p: end for p, end in self._told.items() if p.topic != self._topics.outcomes})
        self.report.lines[Invariant.I15].note = ", ".join(reversed(self._lags))

    async def _know(self) -> None:
        """Find out how many partitions the journal has. Raises UnknownTopic."""
        found = (await self._feed.partitions([self._topics.journal])).get(self._topics.journal)
        if found is None:
            raise UnknownTopic(
                f"{self._topics.journal}: expected the journal of a ledger, found no such topic: set LEDGERLINE_PREFIX"
                " to the ledger's, or create it with `ledgerline init`"
            )
        self.report.partitions = found
        self.walks = {p: Walk(self.report, p, self._bundles) for p in range(found)}

    def _partitions(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in self.walks]

    async def _read_config(self) -> None:
        """Read what is new in ``config``: always before the journals that may name it."""
        config = Partition(self._topics.config, 0)
        end = (await self._feed.ends([config]))[config]
        async for _, records in self._feed.read({config: (self._config_read, end)}):
            for record in records:
                self._bundles.add(record.offset, record.value)
        self._config_read = end

    async def _walk(self, starts: Ends, ends: Ends) -> None:
        """Read every journal from *starts* to *ends*; compare Postgres with what becomes valid up to its position."""
        await self._read_config()
        async for journal, records in self._read("journal", {p: (start, ends[p]) for p, start in starts.items()}):
            walk = self.walks[journal.number]
            rows: list[Row] = []
            for record in records:
                rows += walk.read(record)
                if self._postgres is not None:
                    self._postgres.passed(walk, record)
            if self._postgres is not None:
                await self._postgres.compare(walk, rows)

    def _one_ledger(self) -> None:
        """Every journal begins with the genesis of one ledger: the one that most of them have."""
        found = {p: walk.genesis for p, walk in self.walks.items()}
        same = Counter(
            genesis.model_copy(update={"partition": 0}).model_dump_json() for genesis in found.values() if genesis
        )
        most = decode_genesis(same.most_common(1)[0][0].encode()) if same else None
        self.report.ledger_id = None if most is None else most.ledger_id
        for partition, genesis in found.items():
            expected = None if most is None else most.model_copy(update={"partition": partition})
            if genesis is None or genesis != expected or genesis.partitions != len(self.walks):
                what = f"genesis of one ledger of {len(self.walks)} partitions"
                self.report.fail(Invariant.I7, Place(partition, None, 0), what, expected, genesis)

    async def _reply_ends(self) -> Ends:
        """Return the ends of the reply topics that requests named and that exist."""
        named = {topic for walk in self.walks.values() if walk.genesis for topic in walk.answers.reply_topics}
        found = await self._feed.partitions(sorted(named))
        return await self._feed.ends(Partition(topic, n) for topic, number in found.items() for n in range(number))

    async def _compare_inputs(self) -> None:
        lag = 0
        for kind, topic in (("requests", self._topics.requests), ("transfers", self._topics.transfers)):
            here = [p for p in self._partitions(topic) if self.walks[p.number].genesis is not None]
            starts, ends = await self._feed.starts(here), await self._feed.ends(here)
            inputs = {p: Inputs(self.report, self.walks[p.number], kind, starts[p]) for p in here}
            lag += sum(max(0, ends[p] - inputs[p].end) for p in here)
            ranges = {p: (starts[p], min(inputs[p].end, ends[p])) for p in here}
            async for partition, records in self._read(kind, ranges):
                inputs[partition].read(records)
            for one in inputs.values():
                one.finish()
        self.report.check(Invariant.I15)
        self._lags.append(f"{lag:,} inputs to decide")

    async def _compare_outcomes(self, ends: Ends) -> None:
        starts = await self._feed.starts(ends)
        published = {p: Published(self.report, self.walks[p.number], start) for p, start in starts.items()}
        async for partition, records in self._read("outcomes", {p: (starts[p], end) for p, end in ends.items()}):
            published[partition].read(records)
        for one in published.values():
            one.finish()

    async def _compare_replies(self, ends: Ends) -> None:
        starts = await self._feed.starts(ends)
        replies = Replies(self.report, self.walks)
        async for _, records in self._read("replies", {p: (starts[p], end) for p, end in ends.items()}):
            replies.read(records)

    async def _read(self, step: str, ranges: Ranges) -> AsyncIterator[tuple[Partition, list[Record]]]:
        """Read *ranges*, and say how far it is."""
        done, total = 0, sum(max(0, end - start) for start, end in ranges.values())
        async for partition, records in self._feed.read(ranges):
            yield partition, records
            done += len(records)
            self.progress(Progress(step, done, total))


def _silent(_: Progress) -> None:
    """Nobody watches."""
