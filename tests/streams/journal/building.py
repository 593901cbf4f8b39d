"""Journal records made by hand, for tests: each function says what a writer would have sent."""

from __future__ import annotations

from dataclasses import replace

from schemas.events import FORMAT, Event, Genesis, Skip, decode_events, encode_events, encode_genesis
from streams.journal.follower import Follower
from streams.journal.framing import (
    BlockBody,
    BlockHeaders,
    GenesisHeaders,
    Headers,
    LeaseHeaders,
    encode_block,
    encode_headers,
    next_chain,
)
from streams.journal.log import Log, LogRecord
from streams.journal.reading import Position, Reader, ValidBlock
from streams.journal.simulated import SimulatedBroker

WHERE = "journal[3]"
LEDGER = "00000000-0000-4000-8000-000000000001"
AT = 1_700_000_000_000
GENESIS = Genesis(
    ledger_id=LEDGER,
    partition=3,
    partitions=8,
    format=FORMAT,
    at=AT,
    retry_window_s=86_400,
    ring_horizon_s=86_400,
    inputs={"requests": 0, "transfers": 0, "config": 0},
)

Message = tuple[Headers, bytes]


def genesis(what: Genesis = GENESIS) -> Message:
    return encode_headers(GenesisHeaders(format=FORMAT)), encode_genesis(what)


def token(letter: str) -> bytes:
    return letter.encode() * 16


def lease(epoch: int, letter: str, owner: str = "worker") -> Message:
    return encode_headers(LeaseHeaders(format=FORMAT, epoch=epoch, token=token(letter))), owner.encode()


def event(number: int) -> Event:
    """An event that says which it is: its input offset is *number*."""
    return Skip(at=AT + number, offset=number, sha256="00" * 32, record=(0, 0), reason="unsupported")


def body(*numbers: int, raw: bytes = b"") -> BlockBody:
    return BlockBody(encode_events([event(n) for n in numbers]), raw)


def block(
    epoch: int, letter: str, seq: int, previous: bytes, *numbers: int, published: int = 0, raw: bytes = b""
) -> Message:
    """A block of the events *numbers*, the first of which is *seq*, on the chain *previous*."""
    value = encode_block(body(*numbers, raw=raw), len(numbers))
    headers = BlockHeaders(
        format=FORMAT,
        epoch=epoch,
        token=token(letter),
        seq=seq,
        count=len(numbers),
        chain=next_chain(previous, FORMAT, seq, len(numbers), value),
        published_through=published,
    )
    return encode_headers(headers), value


def record(offset: int, message: Message) -> LogRecord:
    return LogRecord(offset, None, *message)


def header(message: Message, **changes: bytes | None) -> Message:
    """*message* with other header values; the name ``format`` etc. as keyword."""
    return tuple((name, changes.get(name, value)) for name, value in message[0]), message[1]


def reader(position: Position | None = None) -> Reader:
    return Reader(WHERE, record(0, genesis()), position)


def folded(blocks: list[ValidBlock]) -> list[int]:
    """The numbers of the events in *blocks*."""
    return [number for b in blocks for number in numbers(b)]


def numbers(valid: ValidBlock) -> list[int]:
    assert valid.events == decode_events(valid.value[4 : 4 + int.from_bytes(valid.value[:4])])
    return [e.offset for e in valid.events]


async def follower(log: Log, position: Position | None = None) -> Follower:
    return await Follower.begin(log, ledger_id=LEDGER, partition=3, position=position)


def broker_with(*messages: Message) -> SimulatedBroker:
    """A broker whose log holds the genesis and *messages*."""
    broker = SimulatedBroker()
    for headers, value in (genesis(), *messages):
        broker.append(headers, value)
    return broker


def behind(position: Position, **changes: int | bytes) -> Position:
    return replace(position, **changes)  # type: ignore[arg-type]  # test helper: fields by name
