"""The topic ``config``: an ordered log of immutable versions, published here and followed by every worker."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, NamedTuple

from schemas.codec import Malformed
from schemas.config import Bundle, decode_bundle
from streams.kafka import Fetched, Fetcher, Isolation, Outgoing, Partition, Producer, Unreachable
from streams.topics import Topics

PUBLISH_TIMEOUT_S: Final = 30.0
IDLE_WAIT_MS: Final = 1_000
"""How long one read waits for a new version: a published bundle is picked up about as fast as it is fetched."""


class ConfigVersion(NamedTuple):
    """One record of ``config``. *bundle* is None where the value is not one: workers refuse it in an event."""

    offset: int
    value: bytes
    sha256: str
    bundle: Bundle | None


async def publish_bundle(kafka: str, prefix: str, value: bytes) -> int:
    """Append the bundle in *value* to ``config`` as it is, and return its offset; the next batches pick it up.

    Raises: schemas.codec.Malformed, before anything is sent, naming field, expectation and value; KafkaFailure.
    """
    decode_bundle(value)
    producer = await Producer.start(kafka, "ledgerline-rules")
    try:
        to = Partition(Topics(prefix).config, 0)
        return (await producer.send(to, Outgoing(None, value), PUBLISH_TIMEOUT_S)).offset
    finally:
        await producer.close()


def version_of(offset: int, value: bytes) -> ConfigVersion:
    """The version that a record of ``config`` holds. Never raises: what cannot be read is refused by an event."""
    try:
        bundle = decode_bundle(value)
    except Malformed:
        bundle = None
    return ConfigVersion(offset, value, hashlib.sha256(value).hexdigest(), bundle)


class ConfigLog:
    """Everything that ``config`` holds, as far as it was read; one per process, shared by all partitions."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.versions: list[ConfigVersion] = []
        self.next_offset = 0
        self._bundles: dict[str, Bundle] = {}
        self._moved = asyncio.Condition()

    def bundle(self, sha256: str) -> Bundle | None:
        """The bundle with that hash, wherever in the log it lies."""
        return self._bundles.get(sha256)

    def since(self, offset: int) -> list[ConfigVersion]:
        """The versions at or above *offset*, in order."""
        if not self.versions or self.versions[-1].offset < offset:
            return []
        return [version for version in self.versions if version.offset >= offset]

    async def add(self, versions: list[ConfigVersion], next_offset: int) -> None:
        """Take what was read up to *next_offset*, and wake those who wait for it."""
        async with self._moved:
            self.versions += versions
            self._bundles.update({v.sha256: v.bundle for v in versions if v.bundle is not None})
            self.next_offset = max(self.next_offset, next_offset)
            self._moved.notify_all()

    async def read_through(self, end: int) -> None:
        """Return when everything below *end* was read."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.next_offset >= end)

    async def changed(self, seen: int) -> None:
        """Return when something behind offset *seen* was read."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.next_offset > seen)


async def follow_config(kafka: str, log: ConfigLog) -> None:
    """Read ``config`` into *log* until cancelled. Raises KafkaFailure: call again, it goes on where it was."""
    here = Partition(log.topic, 0)
    fetcher = Fetcher(kafka, "ledgerline-config", Isolation.COMMITTED)
    try:
        while True:
            got = (await fetcher.fetch({here: log.next_offset}, IDLE_WAIT_MS)).get(here)
            match got:
                case Fetched() if got.next_offset > log.next_offset:
                    await log.add([version_of(r.offset, r.value or b"") for r in got.records], got.next_offset)
                case None | Fetched() | Unreachable():  # nothing new, or it passes: ask again
                    pass
                case _:
                    raise got
    finally:
        await fetcher.close()


async def config_end(kafka: str, topic: str) -> int:
    """The end of ``config`` as of now. Raises KafkaFailure."""
    fetcher = Fetcher(kafka, "ledgerline-config", Isolation.COMMITTED)
    try:
        return await fetcher.end_offset(Partition(topic, 0))
    finally:
        await fetcher.close()
