"""What the client sends: filled in, checked as the engine checks, encoded once."""

import orjson
import pytest

from ledgerline.client import prepare
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed
from schemas.requests import Decoded, Deposit, decode_request

NOW_MS = 1_790_000_000_123
DEPOSIT = {"type": "deposit", "account_id": "alice", "amount_minor": 5000, "currency": "EUR", "rail": "sepa"}


def test_what_is_absent_is_filled_in() -> None:
    prepared = prepare(DEPOSIT, NOW_MS)
    sent = orjson.loads(prepared.value)
    assert sent["v"] == 1
    assert sent["requested_at"] == "2026-09-21T14:13:20.123Z"
    assert sent["request_id"] == prepared.request_id
    assert len(prepared.request_id) == 36
    assert prepared.account_id == "alice"


def test_two_requests_without_an_id_get_different_ids() -> None:
    assert prepare(DEPOSIT, NOW_MS).request_id != prepare(DEPOSIT, NOW_MS).request_id


def test_what_is_given_is_kept() -> None:
    given = {**DEPOSIT, "request_id": "r-1", "requested_at": "2026-01-01T00:00:00Z"}
    assert orjson.loads(prepare(given, NOW_MS).value) == {"v": 1, **given}


def test_a_prepared_request_is_sent_again_as_the_same_bytes() -> None:
    first = prepare(DEPOSIT, NOW_MS)
    assert prepare(first.request, NOW_MS + 1).value == first.value


def test_a_model_is_sent_as_the_decoder_reads_it_back() -> None:
    model = Deposit(
        v=1,
        type="deposit",
        request_id="r-1",
        account_id="alice",
        requested_at="2026-01-01T00:00:00.500Z",  # type: ignore[arg-type]  # the wire form, which the validator parses
        amount_minor=1,
        currency="JPY",
        rail="cash",
    )
    decoded = decode_request(prepare(model, NOW_MS).value, MAX_REQUEST_BYTES)
    assert isinstance(decoded, Decoded)
    assert decoded.request == model


@pytest.mark.parametrize(
    ("change", "field", "expected", "found"),
    [
        ({"amount_minor": 12.5}, "amount_minor", "integer", "12.5"),
        ({"amount_minor": 0}, "amount_minor", "1", "0"),
        ({"amount": 5}, "amount", "no such field", "5"),
        ({"account_id": "sys:fees:EUR"}, "account_id", "sys:", '"sys:fees:EUR"'),
        ({"rail": None}, "rail", "a value", "null"),
        ({"type": "refund"}, "type", "a type that this version decides", '"refund"'),
        ({"requested_at": "yesterday"}, "requested_at", "YYYY-MM-DDTHH:MM:SS[.mmm]Z", '"yesterday"'),
    ],
)
def test_a_wrong_request_is_refused_by_field_expectation_and_value(
    change: dict[str, object], field: str, expected: str, found: str
) -> None:
    with pytest.raises(Malformed) as refused:
        prepare({**DEPOSIT, **change}, NOW_MS)
    assert (refused.value.field, refused.value.found) == (field, found)
    assert expected in refused.value.expected


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(Malformed, match="value: expected only JSON values"):
        prepare({**DEPOSIT, "metadata": {"order": object()}}, NOW_MS)
