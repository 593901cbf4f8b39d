"""No record whatsoever makes the engine fail, change its mind, or write what others cannot read."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.digest import state_hash
from schemas.codec import canonical
from schemas.times import format_time
from tests.engine.desk import NOON, Desk, make_bundle

VALID: tuple[dict[str, Any], ...] = (
    {"type": "open_account", "currency": "EUR", "tier": "standard", "kind": "debit", "floor_minor": -5},
    {"type": "update_account", "status": "frozen", "attributes": {"a": True}},
    {"type": "close_account"},
    {"type": "deposit", "amount_minor": 100, "currency": "EUR", "rail": "cash"},
    {"type": "withdraw", "amount_minor": 100, "currency": "EUR", "rail": "cash", "metadata": {"k": "v"}},
    {
        "type": "transfer",
        "amount_minor": 5,
        "currency": "EUR",
        "payee": "bob",
        "fees": [{"code": "f", "amount_minor": 1}],
    },
)
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, 10**15, 10**15 + 1, 2**62]),
    st.booleans(),
    st.text(max_size=70),
    st.sampled_from(["alice", "bob", "sys:fees:EUR", "EUR", "ZZZ", "closed", "open", "2026-11-20T12:00:00Z", "r 1"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A valid request with up to two fields changed, added or removed."""
    value = {
        "v": 1,
        "account_id": "alice",
        "request_id": draw(st.sampled_from("abc")),
        "requested_at": format_time(NOON),
    }
    value |= draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 2))):
        field = draw(st.one_of(st.sampled_from(sorted(value)), st.text(max_size=9)))
        if draw(st.booleans()):
            value[field] = draw(values)
        else:
            value.pop(field, None)
    return value


records = st.one_of(
    st.tuples(st.binary(max_size=200) | st.none(), st.binary(max_size=20) | st.none()),
    st.tuples(damaged().map(canonical), st.sampled_from([b"alice", b"alice", b"alice", b"bob", None])),
    st.tuples(values.map(orjson.dumps), st.just(b"alice")),
)


@settings(max_examples=150)
@given(st.lists(records, max_size=25))
def test_any_record_gets_one_readable_answer_and_no_defect(stream: list[tuple[bytes | None, bytes | None]]) -> None:
    desk = Desk(make_bundle(), checked=False)
    desk.send("open_account", "alice", "o", currency="EUR")
    for value, key in stream:
        decision = desk.receive(value, key)
        assert decision.defect is None, decision.defect
        assert isinstance(orjson.loads(decision.explanation), dict)
        assert b"\\u0000" not in decision.outcome.replace(b"\\\\", b"")
        assert b"\\u0000" not in decision.explanation.replace(b"\\\\", b"")
        for account in desk.book.accounts.values():
            assert account.available_minor >= 0
    assert state_hash(desk.folded) == state_hash(desk.book)
    assert desk.book.seq == len(stream) + 2
