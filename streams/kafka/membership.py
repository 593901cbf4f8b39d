"""Membership in a consumer group: who tries to own which partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import aiokafka

from streams.kafka.common import (
    CLOSE_TIMEOUT_S,
    REQUEST_TIMEOUT_MS,
    SESSION_TIMEOUT_MS,
    Partition,
    failures,
    topic_partition,
)
from streams.kafka.consumers import close_consumer


class _Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # its base class is untyped
    """Tells the member; aiokafka logs and drops what a listener raises, so nothing here may fail."""

    def __init__(self, consumer: Any, changed: Callable[[frozenset[Partition]], None]) -> None:
        self._consumer, self._changed = consumer, changed

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:  # noqa: ARG002  # eager: it is always everything
        self._changed(frozenset())

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        found = [*assigned]
        self._consumer.pause(*found)  # nothing is ever read through the member
        self._changed(frozenset(Partition(*tp) for tp in found))


class Member:
    """Membership in a consumer group: says who tries to own which partition, and reads nothing (``Consumer`` does).

    Rebalances are eager: *changed* is called with the empty set, then with the new one; it must not raise or block.
    The member must be polled at least every 5 minutes (``max_poll_interval_ms``), or the group gives its partitions
    away.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    @classmethod
    async def join(
        cls, bootstrap: str, client_id: str, group: str, topic: str, changed: Callable[[frozenset[Partition]], None]
    ) -> Self:
        """Join; returns before the first assignment. Raises KafkaFailure."""
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            group_id=group,
            auto_offset_reset="latest",  # with "none" a group without commits raises at once, even paused
            enable_auto_commit=False,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=1_000,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=60_000,
        )
        consumer.subscribe([topic], listener=_Listener(consumer, changed))
        self = cls(consumer)
        try:
            with failures(f"join group {group} at {bootstrap}"):
                await asyncio.wait_for(consumer.start(), REQUEST_TIMEOUT_MS / 1000)
        except BaseException:
            await self.close()
            raise
        return self

    async def poll(self, timeout_ms: int) -> None:
        """Stay a member; returns after *timeout_ms*."""
        with failures("poll the group membership"):
            await self._consumer.getmany(timeout_ms=timeout_ms)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """For lag monitors only: positions that count are in the journal. Fails harmlessly during a rebalance."""
        with failures("commit group offsets"):
            await self._consumer.commit({topic_partition(p): offset for p, offset in offsets.items()})

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Leave the group, so that others take over at once."""
        await close_consumer(self._consumer, timeout_s)
