"""(b) the same decision as a Faust application: tables with changelogs, at least once.

    BENCH_FAUST='{"kafka": …, "run": …}' python -m bench.faust_app worker --without-web

Idempotency, account and balance check, limits, two balances changed, one answer. What it does not do: rows in Postgres,
postings, a score, explanations, near-duplicates; and it is not exactly-once: a crash between changelog, answer and
offset doubles effects (docs/design.md §12). The agent never waits for the brokers.
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import faust
import orjson
from faust.transport.producer import ProducerBuffer

from bench.payments import DAILY_COUNT, DAILY_SUM_MINOR, PARTITIONS, PER_TRANSACTION_MINOR

GIVEN: Final[dict[str, str]] = json.loads(os.environ["BENCH_FAUST"])
ProducerBuffer.max_messages = 2_000  # its default of 100 makes the application wait for the brokers more often

app = faust.App(
    GIVEN["run"],
    broker=f"kafka://{GIVEN['kafka']}",
    store="memory://",
    datadir=GIVEN["folder"],
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    processing_guarantee="at_least_once",
    producer_acks=-1,
    producer_linger=0.005,
    producer_max_batch_size=256 * 1024,
    stream_wait_empty=False,
    web_enabled=False,
    worker_redirect_stdouts=False,
)
requests = app.topic(f"{GIVEN['run']}.requests", key_serializer="raw", value_serializer="raw", partitions=PARTITIONS)
outcomes = app.topic(f"{GIVEN['run']}.outcomes", key_serializer="raw", value_serializer="raw", partitions=PARTITIONS)
accounts = app.Table("accounts", partitions=PARTITIONS)
decided = app.Table("decided", partitions=PARTITIONS)


def decide(request: dict[str, Any], day: str) -> list[Any]:
    """``[status, reason, balance]``; changes the accounts if it is accepted. An account: balance, day, sum, count."""
    name, amount = request["account_id"], request["amount_minor"]
    payer = accounts.get(name)
    if request["type"] == "deposit":
        before, *used = payer or (0, day, 0, 0)
        accounts[name] = [before + amount, *used]
        return ["accepted", None, before + amount]
    payee = accounts.get(request["payee"])
    if payer is None or payee is None:
        return ["declined", "account_not_found", None]
    balance, used_on, used, count = payer
    if used_on != day:
        used = count = 0
    if balance < amount:
        return ["declined", "insufficient_funds", balance]
    if amount > PER_TRANSACTION_MINOR or used + amount > DAILY_SUM_MINOR or count + 1 > DAILY_COUNT:
        return ["declined", "limit_exceeded", balance]
    accounts[name] = [balance - amount, day, used + amount, count + 1]
    accounts[request["payee"]] = [payee[0] + amount, *payee[1:]]
    return ["accepted", None, balance - amount]


@app.agent(requests)  # type: ignore[untyped-decorator]
async def answer(stream: Any) -> AsyncIterator[None]:
    """One outcome per request."""
    async for event in stream.events():
        request = orjson.loads(event.value)
        key = f"{request['account_id']} {request['request_id']}"
        outcome = decided.get(key)
        if outcome is None:
            outcome = decide(request, request["requested_at"][:10])
            decided[key] = outcome
        status, reason, balance = outcome
        body = {"request_id": request["request_id"], "status": status, "reason": reason, "balance_minor": balance}
        outcomes.send_soon(key=event.key, value=orjson.dumps(body))
        yield


if __name__ == "__main__":
    app.main()
