"""The checker's reference and recounts agree with the engine on any requests: a right ledger is always proved."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.times import format_time
from tests.ledgerline.verify.ledgers import REPLIES, Ledger, report_on
from tests.ledgerline.verify.planted import altered, ledger

HOUR = 3_600_000
DAY = 24 * HOUR
NAMES = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"]
AMOUNTS = [1, 2, 10, 10, 50, 99, 100, 101, 1_000, 10**15]
BOUNDS = [None, None, None, 0, 100, 1_000, -100, -(10**15), 10**15]
TIERS = [None, None, None, "standard", "small", "gone"]
FEES = [None, None, [], [{"code": "f", "amount_minor": 1}], [{"code": "f", "amount_minor": 3}] * 2]
STEPS = (
    ["new"] * 24 + ["again"] * 3 + ["other"] * 2 + ["decide"] * 3 + ["twin", "twin", "lease", "config", "later", "odd"]
)
ODD = [b"", b"{", b"null", b'{"v":1,"v":1}', b"x" * 70_000]

Fields = dict[str, Any]


def request(chance: random.Random) -> Fields:
    """What a request of any type says, but for its ids."""
    pick = chance.choice
    currency, amount = pick(["EUR", "EUR", "EUR", "EUR", "USD"]), pick(AMOUNTS)
    kind = pick(
        ["transfer"] * 8 + ["deposit"] * 3 + ["withdraw", "open_account", "update_account"] * 2 + ["close_account"]
    )
    bounds = {"tier": pick(TIERS), "floor_minor": pick(BOUNDS), "ceiling_minor": pick(BOUNDS)}
    match kind:
        case "transfer":
            fields = {"amount_minor": amount, "currency": currency, "payee": pick(NAMES), "fees": pick(FEES)}
        case "deposit" | "withdraw":
            fields = {"amount_minor": amount, "currency": currency, "rail": pick(["sepa", "cash"])}
        case "open_account":
            fields = {"currency": currency, "kind": pick([None, None, "credit", "debit"]), **bounds}
        case "update_account":
            fields = {"status": pick([None, "open", "open", "frozen"]), **bounds}
        case _:
            fields = {}
            kind = pick(["close_account", "close_account", "capture"])
    return {"type": kind, **{name: value for name, value in fields.items() if value is not None}}


def bundle(chance: random.Random) -> bytes:
    pick = chance.choice
    limits = [
        {"type": "transfer", "currency": "EUR", "per_transaction_minor": 500, "daily_sum_minor": pick([60, 150, 700])},
        {"type": "withdraw", "currency": "EUR", "daily_count": pick([1, 3])},
    ]
    tiers = {"standard": {"limits": limits}}
    if pick([True, False]):
        tiers["small"] = {"limits": [{"type": "transfer", "currency": "EUR", "daily_sum_minor": pick([20, 100])}]}
    settings = {
        "version": pick(["v1", "v2", "v3"]),
        "tiers": tiers,
        "near_duplicates": {"window_s": 60, "action": pick(["pass", "tag", "decline"])},
        "scoring": pick([{}, {}, {"decline_at": 1}, {"decline_at": 400}]),
    }
    return orjson.dumps({"v": 1, "kind": "bundle", **settings})


def new(chance: random.Random, made: Ledger) -> tuple[Fields, str | None]:
    """A request under few ids, so that ids meet again; sometimes under another key, or of another time."""
    skew = chance.choice([0] * 14 + [59_000, 60_011, 70_000, -HOUR, -DAY, -DAY - HOUR])
    account, number = chance.choice(NAMES), chance.randint(0, 150)
    ids = {"v": 1, "request_id": f"r-{number}", "account_id": account, "requested_at": format_time(made.now + skew)}
    return {**ids, **request(chance)}, chance.choice([None] * 16 + ["a2", "other"])


def random_ledger(seed: int, length: int) -> Ledger:
    """*length* steps of any requests on few accounts, with time that leaps, new owners and config in between."""
    chance = random.Random(seed)
    made = Ledger(2, bundle(chance))
    sent: list[tuple[Fields, str | None]] = []
    for name in NAMES[:5]:
        currency = "USD" if name == "a5" else "EUR"
        made.send(made.request("open_account", name, "open", currency=currency))
        made.send(made.request("deposit", name, "fund", amount_minor=1_000, currency=currency, rail="sepa"))
    for name in NAMES[-2:]:
        made.send(made.request("open_account", name, "open", currency="EUR"))
        made.send(made.request("close_account", name, "close"))
    for _ in range(length):
        match chance.choice(STEPS):
            case "again" if sent:
                body, key = chance.choice(sent)
                made.send(body, key=key)
            case "other" if sent:
                body, key = chance.choice(sent)
                made.send({**body, "metadata": {"n": str(chance.randint(0, 2))}}, key=key)
            case "twin" if sent:
                body, key = sent[-1]
                made.now += chance.choice([0, 0, 59_990, 59_991])  # with the 10 ms of a send: in the window, and beyond
                made.send({**body, "request_id": f"twin-{len(sent)}"}, key=key)
            case "decide":
                made.decide(chance.randint(0, 1), chance.choice([1, 3, 100]))
            case "lease":
                made.lease(chance.randint(0, 1))
            case "config":
                made.config.append(chance.choice([bundle(chance), bundle(chance), b"{}"]))
            case "later":
                made.now += chance.choice([30_000, 61_000, HOUR, 12 * HOUR, DAY + HOUR, DAY + 2 * HOUR])
            case "odd":
                made.send(chance.choice(ODD), key=chance.choice(NAMES), partition=chance.randint(0, 1))
            case _:
                body, key = new(chance, made)
                sent.append((body, key))
                where = chance.choice([None] * 30 + [0, 1])
                made.send(body, key=key, partition=where)
    made.decide_all()
    return made


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_what_the_engine_decides_is_proved_right(seed: int, length: int) -> None:
    report = asyncio.run(report_on(random_ledger(seed, length).records()))
    assert report.ok, "\n".join(f"{f.invariant}: {f}" for line in report.lines.values() for f in line.failures)


def test_the_generated_ledgers_reach_nearly_every_reason() -> None:
    seen: set[str | None] = set()
    for seed in range(60):
        for part in random_ledger(seed, 120).parts:
            seen.update(orjson.loads(body)["reason"] for _, body, _ in part.outcomes)
    # A counter near 2^62 takes thousands of requests; an internal error takes a defect.
    assert {reason.value for reason in Reason} - seen == {"internal_error", "overflow"}


RIGHT = ledger().records()
"""Changed in one byte each time; made once, because nothing writes to it."""


@settings(max_examples=400)
@given(st.data())
def test_a_changed_byte_anywhere_is_noticed_and_never_ends_the_checker(data: st.DataObject) -> None:
    """But for what is for people only (the owner in a lease) and the hint of what was published."""
    kinds = [p for p in RIGHT if RIGHT[p] and p.topic != REPLIES]
    where = data.draw(st.sampled_from(kinds))
    record = data.draw(st.sampled_from([r for r in RIGHT[where] if ("kind", b"lease") not in r.headers]))
    value = record.value
    assert value is not None
    position, bit = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, 7))
    changed = value[:position] + bytes([value[position] ^ (1 << bit)]) + value[position + 1 :]
    report = asyncio.run(report_on(altered(RIGHT, where, record.offset, value=changed)))
    assert not report.ok
