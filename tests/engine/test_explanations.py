"""Explanations, byte for byte: keys in their order, absent where they do not apply (docs/requests.md)."""

from pathlib import Path
from typing import Any, Final

from schemas.codec import canonical
from schemas.times import format_time
from tests.engine.desk import Desk, make_bundle

HOUR: Final = 3_600_000
LIMITS: Final = [
    {"type": "transfer", "currency": "EUR", "per_transaction_minor": 5_000, "daily_sum_minor": 9_000, "daily_count": 5},
    {"type": "withdraw", "currency": "EUR", "daily_count": 2},
]
EXPECTED: Final = Path(__file__).with_name("explanations.txt")
TO_BOB: Final[dict[str, Any]] = {"currency": "EUR", "payee": "bob"}


def explained() -> list[str]:
    """Explanations of each kind, from one account."""
    desk = Desk(make_bundle(limits=LIMITS, near_duplicates=("tag", 60), decline_at=900))
    desk.send("open_account", "bob", "o", currency="EUR")
    told = []

    def say(kind: str, request_id: str, after_ms: int = HOUR, **fields: Any) -> bytes:
        desk.wait(after_ms)
        ids = {"v": 1, "type": kind, "account_id": "alice", "request_id": request_id}
        value = canonical({**ids, "requested_at": format_time(desk.at), **fields})
        told.append(desk.receive(value, b"alice").explanation.decode())
        return value

    say("open_account", "o", currency="EUR")
    say("deposit", "d", currency="EUR", amount_minor=20_000, rail="sepa")
    say("transfer", "first", amount_minor=700, **TO_BOB)
    say("transfer", "with-a-fee", amount_minor=4_100, fees=[{"code": "svc", "amount_minor": 10}], **TO_BOB)
    say("transfer", "near-duplicate", after_ms=10_000, amount_minor=4_100, **TO_BOB)
    say("transfer", "above-the-limit", amount_minor=150, **TO_BOB)
    say("withdraw", "w", amount_minor=100, currency="EUR", rail="sepa")
    value = say("transfer", "again", amount_minor=1, **TO_BOB)
    told.append(desk.receive(value, b"alice").explanation.decode())
    say("transfer", "again", amount_minor=2, **TO_BOB)
    say("transfer", "unreadable", amount_minor="1", **TO_BOB)
    told.append(desk.receive(value, b"\xff\0").explanation.decode())
    return told


def test_explanations_are_what_they_were() -> None:
    assert "\n".join(explained()) + "\n" == EXPECTED.read_text()
