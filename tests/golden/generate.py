"""Make the golden journal of this format: ``python -m tests.golden.generate``.

Fixed inputs, tokens and times; every kind of record and event, every type of request. The files are the contract with
journals that exist: they change only with a new ``format`` (docs/journal-format.md), then as a folder beside this one.
"""

import json
from pathlib import Path
from typing import Any, Final

from engine.digest import state_hash
from schemas.bounds import DAY_MS
from schemas.codec import canonical
from schemas.config import DEFAULT_BUNDLE
from schemas.events import FORMAT, encode_events, encode_genesis
from schemas.records import Header
from schemas.times import format_time
from streams.journal.framing import (
    BlockBody,
    BlockHeaders,
    GenesisHeaders,
    LeaseHeaders,
    encode_block,
    encode_headers,
    first_chain,
    next_chain,
)
from tests.engine.desk import Desk, genesis, make_bundle

FOLDER: Final = Path(__file__).parent / f"format-{FORMAT}"
TOKENS: Final = {epoch: bytes([epoch]) * 16 for epoch in (1, 2, 3)}

Written = tuple[tuple[Header, ...], bytes]


class Journal:
    """The records of one journal, written by a desk under leases."""

    def __init__(self) -> None:
        self.desk = Desk(DEFAULT_BUNDLE, genesis(5, 8), checked=False)
        value = encode_genesis(self.desk.genesis)
        self.records: list[Written] = [(encode_headers(GenesisHeaders(format=FORMAT)), value)]
        self.chain = first_chain(value)
        self.seq = 0
        self.epoch = 0

    def lease(self, epoch: int) -> None:
        """A worker takes the partition, or tries to with a late epoch."""
        headers = LeaseHeaders(format=FORMAT, epoch=epoch, token=TOKENS[epoch])
        self.records.append((encode_headers(headers), canonical({"owner": f"worker-{epoch}"})))
        self.epoch = max(self.epoch, epoch)

    def block(self) -> Written:
        """Write what the desk decided since the last block."""
        events, raw = self.desk.take_block()
        value = encode_block(BlockBody(encode_events(events), raw), len(events))
        self.chain = next_chain(self.chain, FORMAT, self.seq + 1, len(events), value)
        headers = BlockHeaders(
            format=FORMAT,
            epoch=self.epoch,
            token=TOKENS[self.epoch],
            seq=self.seq + 1,
            count=len(events),
            chain=self.chain,
            published_through=self.seq,
        )
        self.seq += len(events)
        record = (encode_headers(headers), value)
        self.records.append(record)
        return record


def make() -> Journal:
    """Return the golden journal: two owners, a stale block, a stale lease, a duplicate."""
    journal = Journal()
    desk = journal.desk
    journal.lease(1)
    _open_accounts(desk)
    first = journal.block()
    _pay(desk)
    journal.block()
    journal.lease(2)
    journal.records.append(first)  # a zombie's late block
    journal.lease(1)  # and its late lease
    _change_rules(desk)
    second = journal.block()
    journal.records.append(second)  # delivered twice
    _next_day(desk)
    journal.block()
    _later(desk)
    journal.block()
    return journal


def _open_accounts(desk: Desk) -> None:
    desk.send("open_account", "alice", "o1", currency="EUR", attributes={"country": "FR", "age": 41, "vip": True})
    desk.send("open_account", "shop1", "o1", currency="EUR", tier="unlimited")  # of another partition
    desk.receive(b"\xff not JSON", b"alice")
    desk.receive(b"x" * 70_000, None)
    for name in ("henry", "shop3"):
        desk.send("open_account", name, "o1", currency="EUR", tier="unlimited")
    desk.send("open_account", "loan-6", "o1", currency="EUR", kind="debit", ceiling_minor=50_000)


def _pay(desk: Desk) -> None:
    desk.wait(1_500)
    desk.send("deposit", "alice", "d1", amount_minor=500_000, currency="EUR", rail="sepa")
    fees = [{"code": "service", "amount_minor": 35}, {"code": "speed", "amount_minor": 100}]
    for number in range(20):
        desk.wait(7_200_000 // (number + 1))
        extra: dict[str, Any] = {"fees": fees} if number % 5 == 0 else {}
        payee = _partners(desk)[number % 2]
        desk.send(
            "transfer", "alice", f"t{number}", amount_minor=700 + number % 3, currency="EUR", payee=payee, **extra
        )
    desk.skip()
    _again(desk, "t3")
    desk.send("transfer", "alice", "t4", amount_minor=1, currency="EUR", payee="henry")
    desk.send("withdraw", "alice", "w1", amount_minor=200_000, currency="EUR", rail="cash", metadata={"bränch": "Ω"})
    desk.send("withdraw", "alice", "w2", amount_minor=900_000, currency="EUR", rail="cash")
    desk.send("withdraw", "loan-6", "w1", amount_minor=30_000, currency="EUR", rail="sepa")
    desk.send("deposit", "loan-6", "d1", amount_minor=10_000, currency="EUR", rail="sepa")


def _change_rules(desk: Desk) -> None:
    desk.publish_bytes(b'{"v":1}')
    desk.publish(
        make_bundle(
            "second",
            limits=[{"type": "transfer", "currency": "EUR", "daily_sum_minor": 200_000, "daily_count": 23}],
            tiers={"unlimited": []},
            near_duplicates=("decline", 3600),
            decline_at=900,
        )
    )
    for number in range(6):
        partner = _partners(desk)[number % 2]
        desk.send("transfer", "alice", f"u{number}", amount_minor=900 + number // 4, currency="EUR", payee=partner)
    desk.send("update_account", "alice", "a1", status="frozen", floor_minor=-1_000)
    desk.send("transfer", "alice", "u9", amount_minor=1, currency="EUR", payee=_partners(desk)[0])


def _next_day(desk: Desk) -> None:
    desk.wait(93_600_000)
    desk.send("update_account", "alice", "a2", status="open")
    desk.send("deposit", "loan-6", "d2", amount_minor=20_000, currency="EUR", rail="cash")
    for name in sorted(desk.book.accounts):
        desk.send("close_account", name, "c1")
    _again(desk, "t3")


def _later(desk: Desk) -> None:
    """So late that near-duplicates, and behind the horizon usage, of the first days are forgotten."""
    for days in (3, 36):
        desk.wait(days * DAY_MS)
        desk.send("transfer", "alice", f"l{days}", amount_minor=800 + days, currency="EUR", payee=_partners(desk)[0])
    late = format_time(desk.at + 60_001)
    desk.send("deposit", "alice", "d2", amount_minor=1, currency="EUR", rail="sepa", requested_at=late)


def _again(desk: Desk, request_id: str) -> None:
    """Send a body again that has the id of an earlier one and its time of the first day: a replay, later too old."""
    for decision in desk.decisions:
        event = decision.event
        if event.request_id == request_id and event.account_id == "alice" and event.requested_at is not None:
            number = int(request_id[1:])
            desk.send(
                "transfer",
                "alice",
                request_id,
                amount_minor=700 + number % 3,
                currency="EUR",
                payee=_partners(desk)[number % 2],
                requested_at=format_time(event.requested_at),
            )
            return


def _partners(desk: Desk) -> list[str]:
    return [name for name in desk.book.accounts if name != "alice"][:2]


def main() -> None:
    """Write the folder of this format."""
    journal = make()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for offset, (headers, value) in enumerate(journal.records):
        shown = {name: None if text is None else text.decode("ascii") for name, text in headers}
        (FOLDER / f"{offset:02d}.headers.json").write_text(json.dumps(shown, indent=1) + "\n")
        (FOLDER / f"{offset:02d}.value").write_bytes(value)
    state = {"seq": journal.desk.book.seq, "state_hash": state_hash(journal.desk.book), "chain": journal.chain.hex()}
    (FOLDER / "state.json").write_text(json.dumps(state, indent=1) + "\n")


if __name__ == "__main__":
    main()
