"""Who tries to own which partition: a consumer group, or a static list. Liveness only: the journal decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self

import structlog

from streams.kafka import SESSION_TIMEOUT_MS, KafkaFailure, Member, Partition
from streams.topics import Topics

POLL_MS: Final = 500
COMMIT_EVERY_S: Final = 5.0
REJOIN_AFTER_S: Final = 2.0
UNSETTLED_FOR_S: Final = 2 * SESSION_TIMEOUT_MS / 1000
"""A rebalance first takes everything away and then says who gets what; where a member has died it waits for its session
timeout in between. Until it ends, and for at most this long, the owner goes on: if another takes the partition
meanwhile, the journal fences us."""

Changed = Callable[[frozenset[int]], None]
log = structlog.get_logger(__name__)


class Membership(Protocol):
    """Says which partitions this process should try to own."""

    async def run(self, changed: Changed, positions: Callable[[], Mapping[int, int]]) -> None:
        """Call *changed* with the assigned partitions whenever they change, until cancelled; then leave."""


class StaticMembership:
    """The same list for ever."""

    def __init__(self, partitions: frozenset[int]) -> None:
        self._partitions = partitions

    async def run(self, changed: Changed, positions: Callable[[], Mapping[int, int]]) -> None:  # noqa: ARG002
        """See ``Membership``."""
        changed(self._partitions)
        await asyncio.Event().wait()


class GroupMembership:
    """A consumer group on the topic that it reads. A failing client is replaced; meanwhile the last assignment holds.

    *positions* are committed lazily, for lag monitors only: what counts is in the journal, or with what is derived.
    """

    def __init__(self, kafka: str, *, client_id: str, group: str, topic: str) -> None:
        self._kafka, self._client_id, self._group, self._topic = kafka, client_id, group, topic
        self._latest: frozenset[int] = frozenset()
        self._unsettled_since: float | None = None
        self._applied: frozenset[int] | None = None

    @classmethod
    def of_workers(cls, kafka: str, topics: Topics) -> Self:
        """Workers share the partitions of ``requests``."""
        return cls(kafka, client_id="ledgerline-worker", group=topics.workers_group, topic=topics.requests)

    @classmethod
    def of_sinks(cls, kafka: str, topics: Topics, sink_id: str) -> Self:
        """Sinks of one *sink_id* share the partitions of ``journal``."""
        return cls(kafka, client_id="ledgerline-sink", group=topics.sink_group(sink_id), topic=topics.journal)

    async def run(self, changed: Changed, positions: Callable[[], Mapping[int, int]]) -> None:
        """See ``Membership``."""
        while True:
            try:
                await self._as_member(changed, positions)
            except KafkaFailure as error:
                log.warning("the group membership failed; joining again", error=str(error))
            await asyncio.sleep(REJOIN_AFTER_S)

    async def _as_member(self, changed: Changed, positions: Callable[[], Mapping[int, int]]) -> None:
        def listener(assigned: frozenset[Partition]) -> None:
            """Called inside the client, which swallows exceptions: nothing here can fail."""
            self._latest = frozenset(p.number for p in assigned)
            if self._latest:
                self._unsettled_since = None
                self._apply(changed)
            else:
                self._unsettled_since = time.monotonic()

        member = await Member.join(self._kafka, self._client_id, self._group, self._topic, listener)
        committed, commit_at = dict[int, int](), time.monotonic() + COMMIT_EVERY_S
        try:
            while True:
                await member.poll(POLL_MS)
                now = time.monotonic()
                if self._unsettled_since is not None and now - self._unsettled_since > UNSETTLED_FOR_S:
                    self._unsettled_since = None
                    self._apply(changed)
                if now >= commit_at:
                    commit_at = now + COMMIT_EVERY_S
                    committed = await self._commit(member, committed, positions())
        finally:
            await member.close()

    def _apply(self, changed: Changed) -> None:
        if self._latest != self._applied:
            self._applied = self._latest
            changed(self._latest)

    async def _commit(self, member: Member, before: dict[int, int], positions: Mapping[int, int]) -> dict[int, int]:
        now = {p: offset for p, offset in positions.items() if p in self._latest}
        if now == before or not now:
            return before
        try:
            await member.commit({Partition(self._topic, p): offset for p, offset in now.items()})
        except KafkaFailure as error:  # usual during a rebalance; the next one commits
            log.debug("group offsets were not committed", error=str(error))
            return before
        return now
