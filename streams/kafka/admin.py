"""Topics and their settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiokafka
import aiokafka.admin
import aiokafka.errors

from streams.kafka.common import CLOSE_TIMEOUT_S, REQUEST_TIMEOUT_MS, failures


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTopic:
    """A topic to be created."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicInfo:
    """A topic that exists."""

    name: str
    partitions: int
    replication_factor: int  # the lowest over its partitions


class Admin:
    """Topics and their settings."""

    def __init__(self, admin: Any) -> None:
        self._admin = admin

    @classmethod
    async def start(cls, bootstrap: str, client_id: str) -> Self:
        """Connect. Raises KafkaFailure."""
        admin = aiokafka.admin.AIOKafkaAdminClient(
            bootstrap_servers=bootstrap, client_id=client_id, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        self = cls(admin)
        try:
            with failures(f"connect to {bootstrap}"):
                await asyncio.wait_for(admin.start(), REQUEST_TIMEOUT_MS / 1000)
        except BaseException:
            await self.close()
            raise
        return self

    async def create_topic(self, topic: NewTopic) -> None:
        """Create *topic* and return when a broker tells of it with all its leaders.

        Raises: TopicExists; KafkaFailure with the broker's words (aiokafka only returns error codes).
        """
        new = aiokafka.admin.NewTopic(
            topic.name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.configs)
        )
        with failures(f"create topic {topic.name}"):
            for name, code, message in (await self._admin.create_topics([new])).topic_errors:
                if code:
                    raise aiokafka.errors.for_code(code)(f"{name}: {message}")

        with failures(f"wait for topic {topic.name}"):
            async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
                while not await self._is_led(topic.name):  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.02)

    async def _is_led(self, name: str) -> bool:
        (found,) = await self._admin.describe_topics([name])
        return not found["error_code"] and all(p["leader"] >= 0 for p in found["partitions"])

    async def delete_topic(self, name: str) -> None:
        """Raises UnknownTopic, or KafkaFailure with the broker's words."""
        with failures(f"delete topic {name}"):
            for topic, code in (await self._admin.delete_topics([name])).topic_error_codes:
                if code:
                    raise aiokafka.errors.for_code(code)(topic)

    async def topics(self) -> frozenset[str]:
        """The names of all topics."""
        with failures("list topics"):
            return frozenset(await self._admin.list_topics())

    async def describe_topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Those of *names* that exist."""
        with failures("describe topics"):
            found = await self._admin.describe_topics([*names])
        return {
            t["topic"]: TopicInfo(
                name=t["topic"],
                partitions=len(t["partitions"]),
                replication_factor=min((len(p["replicas"]) for p in t["partitions"]), default=0),
            )
            for t in found
            if not t["error_code"]
        }

    async def topic_configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Every setting in force of each topic."""
        resource, kind = (
            aiokafka.admin.config_resource.ConfigResource,
            aiokafka.admin.config_resource.ConfigResourceType,
        )
        with failures("describe topic settings"):
            responses = await self._admin.describe_configs([resource(kind.TOPIC, name) for name in names])
            configs: dict[str, dict[str, str]] = {}
            for code, message, _, name, entries in (r for response in responses for r in response.resources):
                if code:
                    raise aiokafka.errors.for_code(code)(f"{name}: {message}")
                configs[name] = {entry[0]: entry[1] for entry in entries}
        return configs

    async def broker_count(self) -> int:
        """How many brokers the cluster has."""
        with failures("describe the cluster"):
            return len((await self._admin.describe_cluster())["brokers"])

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Bounded."""
        with contextlib.suppress(TimeoutError, OSError, aiokafka.errors.KafkaError):
            await asyncio.wait_for(self._admin.close(), timeout_s)
