"""The upstream service of the bench: produces requests while the run lasts, in a process of its own.

    python -m bench.upstream '<JSON of Order>'        prints one JSON line: what was sent and how

``flood`` sends as fast as is kept up with: at most *waiting* requests wait for their effect. ``paced`` is an open loop:
each request has its time, whether or not earlier ones were answered; sends that come more than 5 ms late are counted.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Final, Literal

import asyncpg
import uvloop

from bench.payments import PARTITIONS, Accounts, Payments, fundings, now_ms, openings
from ledgerline.demo.sender import Sender
from schemas.records import partition_of
from schemas.times import format_time
from streams.kafka import Consumer, Isolation, Outgoing, Partition, Producer

BURST: Final = 500
LOOK_EVERY_S: Final = 0.02
SETTLED_WITHIN_S: Final = 60.0
LATE_MS: Final = 5
LINGER_S: Final = 0.005
"""How long a request waits for others, to travel together: the default `linger.ms` of Kafka's own client since 4.0."""

Done = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send where, and where its effects are counted: a DSN (rows in Postgres) or a topic (its records)."""

    mode: Literal["open", "fund", "flood", "paced"]
    kafka: str
    topic: str
    accounts: int
    run: str = ""
    seed: int = 1
    seconds: float = 0.0
    rate: int = 0
    waiting: int = 0
    posted: str | None = None
    answered: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What was sent. *seconds* last from the first send until all of it had its effect; 0 for a paced run."""

    sent: int
    seconds: float
    cpu_s: float
    late: int = 0
    max_late_ms: int = 0


async def main(order: Order) -> Sending:
    """Do what *order* says."""
    accounts = Accounts.named(order.accounts)
    if order.mode == "paced":
        return await _paced(order, Payments(accounts, order.run, order.seed))
    done = await (_posted(order.posted) if order.posted is not None else _answered(order))
    sender = Sender(order.kafka, order.topic, PARTITIONS)
    try:
        if order.mode == "flood":
            return await _flood(order, Payments(accounts, order.run, order.seed), sender, done)
        outbound = openings(accounts) if order.mode == "open" else fundings(accounts)
        before, began, cpu = await done(), time.monotonic(), time.process_time()
        while burst := list(islice(outbound, BURST)):
            await sender.send(burst)
        await _settled(done, before + sender.sent)
        return Sending(sent=sender.sent, seconds=time.monotonic() - began, cpu_s=time.process_time() - cpu)
    finally:
        await sender.close()


async def _flood(order: Order, payments: Payments, sender: Sender, done: Done) -> Sending:
    before, began, cpu = await done(), time.monotonic(), time.process_time()
    effective, looked = before, began
    while (now := time.monotonic()) - began < order.seconds:
        if now - looked > LOOK_EVERY_S or sender.sent - (effective - before) >= order.waiting:
            effective, looked = await done(), now
        if sender.sent - (effective - before) >= order.waiting:
            await asyncio.sleep(LOOK_EVERY_S / 4)
            continue
        at = format_time(now_ms())
        await sender.send([payments.next(at) for _ in range(BURST)])
    await _settled(done, before + sender.sent)
    return Sending(sent=sender.sent, seconds=time.monotonic() - began, cpu_s=time.process_time() - cpu)


async def _settled(done: Done, wanted: int) -> None:
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while await done() < wanted:  # noqa: ASYNC110 - another process makes progress, asking is all there is
            await asyncio.sleep(LOOK_EVERY_S / 2)


async def _posted(dsn: str) -> Done:
    """Events that Postgres holds."""
    connection = await asyncpg.connect(dsn)
    statement = await connection.prepare("SELECT coalesce(sum(seq), 0)::bigint FROM ledgerline.sink_positions")

    async def done() -> int:
        return int(await statement.fetchval())

    return done


async def _answered(order: Order) -> Done:
    """Records of the topic of answers."""
    assert order.answered is not None, "a run has its effects in Postgres or in a topic"
    consumer = await Consumer.start(order.kafka, "bench-upstream", Isolation.UNCOMMITTED)
    places = [Partition(order.answered, number) for number in range(PARTITIONS)]

    async def done() -> int:
        return sum((await consumer.end_offsets(places)).values())

    return done


async def _paced(order: Order, payments: Payments) -> Sending:
    """Request n is due n / rate after the start; its ``requested_at`` is the moment it was due."""
    producer = await Producer.start(order.kafka, "bench-upstream")
    loop, total = asyncio.get_running_loop(), int(order.rate * order.seconds)
    sending: set[asyncio.Task[None]] = set()
    late = worst = sent = 0
    began, began_ms, cpu = loop.time(), now_ms(), time.process_time()
    while sent < total:
        await asyncio.sleep(LINGER_S)
        elapsed_s = loop.time() - began
        due = min(total, int(order.rate * elapsed_s) + 1)
        together: dict[int, list[Outgoing]] = {}
        for number in range(sent, due):
            at_s = number / order.rate
            behind_ms = int((elapsed_s - at_s - LINGER_S) * 1000)
            late, worst = late + (behind_ms > LATE_MS), max(worst, behind_ms)
            one = payments.next(format_time(began_ms + int(at_s * 1000)))
            together.setdefault(partition_of(one.key, PARTITIONS), []).append(Outgoing(one.key, one.value))
        for partition, records in together.items():
            task = asyncio.create_task(producer.send_all(Partition(order.topic, partition), records, SETTLED_WITHIN_S))
            sending.add(task)
            task.add_done_callback(sending.discard)
        sent = due
    await asyncio.gather(*sending)
    used = time.process_time() - cpu
    await producer.close()
    return Sending(sent=sent, seconds=0.0, cpu_s=used, late=late, max_late_ms=worst)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(main(Order(**json.loads(sys.argv[1])))))))
