"""``init`` that dies between two of its steps, and the list of those gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

import streams.config_log
import streams.init
from streams.journal.kafka_log import KafkaLog
from streams.kafka import Admin, Producer
from tests.kills.dying import Kill, dying

PARTITIONS: Final = 3
TOPICS: Final = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class InitGap:
    """Two steps of ``init_ledger``, the kill between them, and what is there then."""

    name: str
    of: type[Admin | KafkaLog | Producer]
    kill: Kill
    topics: int = TOPICS
    geneses: int = 0
    bundles: int = 0


GAPS: Final[Sequence[InitGap]] = (
    InitGap(name="1 some topics created", of=Admin, kill=Kill(step="create_topic", call=3), topics=3),
    InitGap(name="1-2 topics created, no genesis", of=KafkaLog, kill=Kill(step="append", side="front")),
    InitGap(name="3 one genesis of three written", of=KafkaLog, kill=Kill(step="append"), geneses=1),
    InitGap(name="3 two geneses of three written", of=KafkaLog, kill=Kill(step="append", call=2), geneses=2),
    InitGap(name="3-4 geneses written, no bundle", of=Producer, kill=Kill(step="send", side="front"), geneses=3),
    InitGap(name="4 bundle published", of=Producer, kill=Kill(step="send"), geneses=3, bundles=1),
)


def init_until_killed(kafka: str, prefix: str, gap: InitGap, marker: Path) -> int:
    """Run ``init`` with a client that dies in *gap*, in a process that ends with it."""
    module = streams.config_log if gap.of is Producer else streams.init
    assert hasattr(module, gap.of.__name__)
    setattr(module, gap.of.__name__, dying(gap.of, gap.kill, marker))
    assert streams.init.WRITTEN_AT_ONCE
    streams.init.WRITTEN_AT_ONCE = 1  # type: ignore[misc]  # or it would be a matter of luck how many get there
    asyncio.run(streams.init.init_ledger(kafka, prefix, partitions=PARTITIONS, dev=True))
    return 0


def init(kafka: str, prefix: str, answer: Path, _marker: Path) -> int:
    """Run ``init`` as it is, and note what it did."""
    done = asyncio.run(streams.init.init_ledger(kafka, prefix, partitions=PARTITIONS, dev=True))
    answer.write_bytes(orjson.dumps(done))
    return 0
