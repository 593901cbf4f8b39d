"""Ledgers in memory for the tests of the checker: decided by the engine, written by hand, changed at will."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import orjson

from engine.book import Book
from engine.decide import decide, decide_config, needs
from engine.evidence import Evidence
from engine.evolve import evolve
from engine.intake import read_intake
from ledgerline.verify.checker import Checker
from ledgerline.verify.feeds import Ranges
from ledgerline.verify.report import Report
from schemas.config import Bundle, decode_bundle
from schemas.events import FORMAT, Answer, ConfigPickup, Event, Genesis, encode_events, encode_genesis, span
from schemas.records import RawRecord, frame, partition_of
from schemas.times import format_time
from streams.init import default_bundle_value
from streams.journal.framing import (
    BlockBody,
    BlockHeaders,
    GenesisHeaders,
    Headers,
    LeaseHeaders,
    encode_block,
    encode_headers,
    first_chain,
    next_chain,
)
from streams.kafka import LOG_APPEND_TIME, Partition, Record
from streams.topics import Topics

LEDGER = "00000000-0000-4000-8000-0000000000aa"
AT = 1_763_683_200_000  # 2025-11-21T00:00:00Z
PREFIX = "memory."
REPLIES = "replies.service"


@dataclass(slots=True, eq=False)
class Lease:
    epoch: int
    token: bytes


@dataclass(slots=True, eq=False)
class Block:
    """A block that can be changed: its chain is computed when the journal is written."""

    epoch: int
    token: bytes
    events: list[Event]
    raw: bytes
    published_through: int = 0

    def copy(self, **changes: Any) -> Block:
        return replace(self, **{"events": list(self.events), **changes})

    def value(self) -> bytes:
        return encode_block(BlockBody(encode_events(self.events), self.raw), len(self.events))

    def outcome(self, index: int) -> bytes:
        event = self.events[index]
        assert isinstance(event, Answer)
        body = span(self.raw, event.outcome)
        assert body is not None
        return body

    def with_outcome(self, index: int, **changes: Any) -> Block:
        """The same block, in which the outcome of event *index* says something else."""
        event = self.events[index]
        assert isinstance(event, Answer)
        body = orjson.dumps({**orjson.loads(self.outcome(index)), **changes})
        moved = msgspec.structs.replace(event, outcome=(len(self.raw), len(body)))
        events = [*self.events[:index], moved, *self.events[index + 1 :]]
        return self.copy(events=events, raw=self.raw + body)

    def with_event(self, index: int, **changes: Any) -> Block:
        """The same block, in which event *index* has other fields."""
        changed = msgspec.structs.replace(self.events[index], **changes)
        return self.copy(events=[*self.events[:index], changed, *self.events[index + 1 :]])


class Found(NamedTuple):
    """An answer in its block."""

    block: Block
    at: int  # in the block
    seq: int
    event: Answer


@dataclass(slots=True)
class Part:
    """One partition of a ledger."""

    genesis: Genesis
    book: Book
    requests: list[Record] = field(default_factory=list)
    journal: list[Lease | Block] = field(default_factory=list)
    outcomes: list[tuple[int, bytes, str | None]] = field(default_factory=list)  # seq, body, request_id
    bodies: dict[int, bytes] = field(default_factory=dict)
    decided: int = 0
    epoch: int = 0
    token: bytes = bytes(16)

    @property
    def blocks(self) -> list[Block]:
        return [entry for entry in self.journal if isinstance(entry, Block)]


class Ledger:
    """*partitions* partitions; requests go where their key belongs, and are decided when ``decide`` is called."""

    def __init__(self, partitions: int = 2, bundle: bytes | None = None) -> None:
        self.partitions = partitions
        self.config = [bundle or default_bundle_value()]
        self.now = AT
        self.replies: list[bytes] = []
        self.parts = [Part(genesis, Book.from_genesis(genesis)) for genesis in map(self._genesis, range(partitions))]

    def _genesis(self, partition: int) -> Genesis:
        return Genesis(
            ledger_id=LEDGER,
            partition=partition,
            partitions=self.partitions,
            format=FORMAT,
            at=AT,
            retry_window_s=86_400,
            ring_horizon_s=35 * 86_400,
            inputs={"requests": 0, "transfers": 0, "config": 0},
        )

    # ---- what upstream services do

    def send(
        self,
        request: Mapping[str, Any] | bytes,
        *,
        key: str | None = None,
        partition: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> int:
        """Append a request; return its partition."""
        value = request if isinstance(request, bytes) else orjson.dumps(request)
        name = key if key is not None or isinstance(request, bytes) else str(request["account_id"])
        where = partition if partition is not None else partition_of((name or "").encode(), self.partitions)
        log = self.parts[where].requests
        encoded = None if name is None else name.encode()
        self.now += 10
        log.append(Record("requests", where, len(log), encoded, value, tuple(headers), self.now, LOG_APPEND_TIME))
        return where

    def request(self, kind: str, account: str, request_id: str, **fields: Any) -> dict[str, Any]:
        """A request of *account*, made now."""
        return {
            "v": 1,
            "type": kind,
            "request_id": request_id,
            "account_id": account,
            "requested_at": format_time(self.now),
            **fields,
        }

    # ---- what a worker does

    def lease(self, partition: int) -> None:
        """Another owner takes the partition."""
        part = self.parts[partition]
        part.epoch += 1
        part.token = hashlib.sha256(f"{partition} {part.epoch}".encode()).digest()[:16]
        part.journal.append(Lease(part.epoch, part.token))

    def decide(self, partition: int, most: int = 2_000) -> Block | None:
        """Answer what waits in *partition*, as one block, and publish its outcomes."""
        part = self.parts[partition]
        waiting = part.requests[part.decided : part.decided + most]
        if not waiting:
            return None
        if not part.journal:
            self.lease(partition)
        block = Block(part.epoch, part.token, [], b"", published_through=part.book.seq)
        first = part.book.seq + 1
        for record in waiting:
            at = max(part.book.at, record.timestamp_ms)
            while part.book.config_offset < len(self.config):
                offset = part.book.config_offset
                self._take(
                    part, block, decide_config(part.book, offset, self.config[offset], "requests", record.offset, at)
                )
            self._answer(part, block, record, at)
        part.decided += len(waiting)
        part.journal.append(block)
        for index, event in enumerate(block.events):
            if isinstance(event, Answer):
                self.publish(partition, first + index, block.outcome(index), event.request_id)
        return block

    def decide_all(self) -> None:
        for partition in range(self.partitions):
            self.decide(partition)

    def publish(self, partition: int, seq: int, body: bytes, request_id: str | None) -> None:
        self.parts[partition].outcomes.append((seq, body, request_id))
        self.replies.append(body)

    def _answer(self, part: Part, block: Block, record: Record, at: int) -> None:
        raw = RawRecord(record.key, record.headers, record.value)
        framed = frame(raw)
        intake = read_intake(raw, framed, record.offset)
        wanted = needs(part.book, intake)
        evidence = Evidence(original=None if wanted is None else part.bodies[wanted])
        ruleset = part.book.ruleset
        assert ruleset is not None
        decision = decide(part.book, intake, evidence, at, self._bundle(ruleset.offset), len(block.raw))
        assert decision.defect is None, decision.defect
        kept = framed if decision.event.record[0] is not None else b""
        block.raw += kept + decision.outcome + decision.explanation
        self._take(part, block, decision.event)
        part.bodies[part.book.seq] = decision.outcome

    def _bundle(self, offset: int) -> Bundle:
        return decode_bundle(self.config[offset])

    @staticmethod
    def _take(part: Part, block: Block, event: Answer | ConfigPickup) -> None:
        block.events.append(event)
        evolve(part.book, event)

    # ---- what goes wrong

    def change(self, partition: int, old: Block, new: Block) -> None:
        """Put *new* in the place of *old*, as if it had been decided so: what was published follows."""
        part = self.parts[partition]
        part.journal[part.journal.index(old)] = new
        self.replies = []
        for each in self.parts:
            each.outcomes = []
        for p in range(self.partitions):
            seq = 1
            for block in self.parts[p].blocks:
                for index, event in enumerate(block.events):
                    if isinstance(event, Answer):
                        self.publish(p, seq + index, block.outcome(index), event.request_id)
                seq += len(block.events)

    def find(self, partition: int, request_id: str, *, replayed: bool = False) -> Found:
        """Where the answer to *request_id* stands."""
        seq = 1
        for block in self.parts[partition].blocks:
            for index, event in enumerate(block.events):
                if isinstance(event, Answer) and event.request_id == request_id and event.replayed == replayed:
                    return Found(block, index, seq + index, event)
            seq += len(block.events)
        raise AssertionError(f"{request_id} was not answered in partition {partition}")

    # ---- what stands in the topics

    def journal(self, partition: int) -> list[tuple[Headers, bytes]]:
        """Headers and values of the journal, with the right chain for what its blocks hold now."""
        part = self.parts[partition]
        value = encode_genesis(part.genesis)
        written = [(encode_headers(GenesisHeaders(format=FORMAT)), value)]
        chain, seq = first_chain(value), 1
        for entry in part.journal:
            if isinstance(entry, Lease):
                written.append(
                    (encode_headers(LeaseHeaders(format=FORMAT, epoch=entry.epoch, token=entry.token)), b"worker")
                )
                continue
            value, count = entry.value(), len(entry.events)
            chain = next_chain(chain, FORMAT, seq, count, value)
            headers = BlockHeaders(
                format=FORMAT,
                epoch=entry.epoch,
                token=entry.token,
                seq=seq,
                count=count,
                chain=chain,
                published_through=entry.published_through,
            )
            written.append((encode_headers(headers), value))
            seq += count
        return written

    def records(self) -> dict[Partition, list[Record]]:
        """Everything that the topics hold, under ``PREFIX``."""
        topics = Topics(PREFIX)
        found: dict[Partition, list[Record]] = {}
        for p, part in enumerate(self.parts):
            found[Partition(topics.requests, p)] = list(part.requests)
            found[Partition(topics.transfers, p)] = []
            journal = [(None, headers, value) for headers, value in self.journal(p)]
            found[Partition(topics.journal, p)] = _log(topics.journal, p, journal)
            outcomes = [(None, _headers(seq, request_id), body) for seq, body, request_id in part.outcomes]
            found[Partition(topics.outcomes, p)] = _log(topics.outcomes, p, outcomes)
        config = [(None, (), value) for value in self.config]
        found[Partition(topics.config, 0)] = _log(topics.config, 0, config)
        found[Partition(REPLIES, 0)] = _log(REPLIES, 0, [(None, (), body) for body in self.replies])
        return found


def _headers(seq: int, request_id: str | None) -> Headers:
    named = () if request_id is None else (("request_id", request_id.encode()),)
    return (*named, ("seq", b"%d" % seq))


def _log(topic: str, partition: int, messages: Iterable[tuple[bytes | None, Headers, bytes]]) -> list[Record]:
    return [
        Record(topic, partition, offset, key, value, headers, AT, LOG_APPEND_TIME)
        for offset, (key, headers, value) in enumerate(messages)
    ]


class MemoryFeed:
    """The checker's feed over records in memory: the twin of ``KafkaFeed``."""

    def __init__(self, records: Mapping[Partition, list[Record]], chunk: int = 3) -> None:
        self.records = records
        self.chunk = chunk

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        named = set(topics)
        found: dict[str, int] = {}
        for topic, _ in self.records:
            if topic in named:
                found[topic] = found.get(topic, 0) + 1
        return found

    async def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        logs = {p: self.records[p] for p in partitions}
        return {p: log[0].offset if log else 0 for p, log in logs.items()}

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        logs = {p: self.records[p] for p in partitions}
        return {p: log[-1].offset + 1 if log else 0 for p, log in logs.items()}

    async def read(self, ranges: Ranges) -> AsyncIterator[tuple[Partition, list[Record]]]:
        for partition, (start, end) in ranges.items():
            within = [r for r in self.records[partition] if start <= r.offset < end]
            for i in range(0, len(within), self.chunk):
                yield partition, within[i : i + self.chunk]


async def report_on(records: Mapping[Partition, list[Record]]) -> Report:
    """Verify topics in memory, without Postgres."""
    checker = Checker(Topics(PREFIX), MemoryFeed(records))
    await checker.read(None, "ledgerline")
    await checker.compare()
    return checker.report


def payments(ledger: Ledger, reply_to: str = REPLIES) -> None:
    """Accounts, money and every kind of answer, in every partition, in several blocks under two leases."""
    for p in range(ledger.partitions):
        names = _names(p, ledger.partitions)
        for name in names[:3]:
            ledger.send(ledger.request("open_account", name, f"open-{name}", currency="EUR"))
            money = {"amount_minor": 100_000, "currency": "EUR", "rail": "sepa"}
            ledger.send(ledger.request("deposit", name, f"fund-{name}", **money))
        ledger.decide(p)
        payer, payee, other, unknown = names[:4]
        headers = [("reply-to", reply_to.encode())]
        for n in range(6):
            fees = [{"code": "svc", "amount_minor": 5}] if n % 2 else []
            pay = {"amount_minor": 1_000 + n, "currency": "EUR", "payee": payee, **({"fees": fees} if fees else {})}
            sent = ledger.request("transfer", payer, f"pay-{n}", **pay)
            ledger.send(sent, headers=headers)
            if n == 2:
                ledger.send(sent, headers=headers)  # again
                ledger.send({**sent, "amount_minor": 7}, headers=headers)  # under the same id
        ledger.decide(p)
        ledger.lease(p)
        for n, (account, pay) in enumerate(
            [
                (payer, {"amount_minor": 10_000_000, "currency": "EUR", "payee": payee}),
                (payer, {"amount_minor": 5, "currency": "USD", "payee": payee}),
                (payer, {"amount_minor": 5, "currency": "EUR", "payee": unknown}),
                (unknown, {"amount_minor": 5, "currency": "EUR", "payee": payee}),
                (other, {"amount_minor": 1_000, "currency": "EUR", "payee": payer}),
                (other, {"amount_minor": 1_000, "currency": "EUR", "payee": payer}),
            ]
        ):
            ledger.send(ledger.request("transfer", account, f"late-{n}", **pay))
        ledger.send(b"{", key=payer)
        ledger.send(ledger.request("capture", payer, "planned"))
        ledger.send(ledger.request("close_account", payer, "foreign-key"), key=payee)
        ledger.send(ledger.request("close_account", payer, "foreign"), partition=(p + 1) % ledger.partitions)
        ledger.decide(p)
    ledger.decide_all()


def _names(partition: int, partitions: int) -> list[str]:
    found = (f"acc-{n}" for n in range(10_000))
    mine = (name for name in found if partition_of(name.encode(), partitions) == partition)
    return [next(mine) for _ in range(5)]
