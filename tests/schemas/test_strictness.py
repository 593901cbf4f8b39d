"""What the one decoder refuses, and how it says so: field, expectation, value found."""

from typing import Any

import orjson
import pytest

from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed, decode_object
from schemas.config import decode_bundle
from schemas.requests import Decoded, Unreadable, decode_request

TRANSFER: dict[str, Any] = {
    "v": 1, "type": "transfer", "request_id": "r-1", "account_id": "alice", "requested_at": "2026-11-20T12:00:00.000Z",
    "amount_minor": 1250, "currency": "EUR", "payee": "bob", "fees": [{"code": "svc", "amount_minor": 10}],
    "merchant": "m-17", "country": "FR", "metadata": {"order": "A1"},
}  # fmt: skip
OPEN: dict[str, Any] = {
    "v": 1, "type": "open_account", "request_id": "o-1", "account_id": "alice", "requested_at": "2026-11-20T12:00:00Z",
    "currency": "EUR",
}  # fmt: skip
ID = "an account id: 1 to 64 characters of A-Z a-z 0-9 . _ : ~ -, not starting with sys:"
WORD = "1 to 64 printable ASCII characters without space"
TIME = "a UTC time as YYYY-MM-DDTHH:MM:SS[.mmm]Z"
INTEGER = "an integer without fraction or exponent, within int64"


def refused(value: bytes | None) -> Unreadable:
    found = decode_request(value, MAX_REQUEST_BYTES)
    assert isinstance(found, Unreadable), found
    return found


def accepted(value: bytes) -> Decoded:
    found = decode_request(value, MAX_REQUEST_BYTES)
    assert isinstance(found, Decoded), found
    return found


def with_text(field: str, text: str, base: dict[str, Any] = TRANSFER) -> bytes:
    """Return *base* with the JSON *text* in place of *field*'s value."""
    marked = orjson.dumps(base | {field: "@@"})
    return marked.replace(b'"@@"', text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("field", "text", "expected", "found"),
    [
        ("unknown", "1", "no such field", "1"),
        ("v", "2", "1, the version of this format", "2"),
        ("v", "true", "1, the version of this format", "true"),
        ("v", '"1"', "1, the version of this format", '"1"'),
        ("amount_minor", '"1"', "an integer", '"1"'),
        ("amount_minor", "true", "an integer", "true"),
        ("amount_minor", "1.0", INTEGER, "1.0"),
        ("amount_minor", "1e3", INTEGER, "1000.0"),
        ("amount_minor", "0", "an integer of at least 1", "0"),
        ("amount_minor", "-1", "an integer of at least 1", "-1"),
        ("amount_minor", "1000000000000001", "an integer of at most 1000000000000000", "1000000000000001"),
        ("amount_minor", "9223372036854775808", "an integer within int64", "9223372036854775808"),
        ("amount_minor", "-9223372036854775809", INTEGER, "-9.223372036854776e+18"),
        ("amount_minor", "18446744073709551617", INTEGER, "1.8446744073709552e+19"),
        ("amount_minor", "null", "a value, or no such field", "null"),
        ("amount_minor", "{}", "an integer", "{}"),
        ("merchant", "null", "a value, or no such field", "null"),
        ("merchant", '""', WORD, '""'),
        ("merchant", '"a b"', WORD, '"a b"'),
        ("merchant", '"m\\n"', WORD, '"m\\n"'),
        ("merchant", '"é"', WORD, '"é"'),
        ("merchant", f'"{"m" * 65}"', WORD, f'"{"m" * 65}"'),
        ("merchant", "7", "a string", "7"),
        ("request_id", '"r\\u007f"', WORD, '"r\x7f"'),
        ("account_id", '"sys:fees:EUR"', ID, '"sys:fees:EUR"'),
        ("account_id", '"٣"', ID, '"٣"'),
        ("account_id", '"alice\\n"', ID, '"alice\\n"'),
        ("account_id", '""', ID, '""'),
        ("account_id", f'"{"a" * 65}"', "at most 64 characters", f'"{"a" * 65}"'),
        ("payee", '"sys:"', ID, '"sys:"'),
        ("currency", '"EURO"', "an ISO 4217 currency code such as EUR", '"EURO"'),
        ("currency", '"eur"', "an ISO 4217 currency code such as EUR", '"eur"'),
        ("currency", "978", "an ISO 4217 currency code such as EUR", "978"),
        ("country", '"fr"', "a country code of two capital letters", '"fr"'),
        ("country", '"FR\\n"', "a country code of two capital letters", '"FR\\n"'),
        ("fees", "{}", "an array", "{}"),
        ("fees", '"ab"', "an array", '"ab"'),
        ("metadata", "[]", "an object", "[]"),
        ("requested_at", "1795176000000", TIME, "1795176000000"),
        ("requested_at", '"1795176000000"', TIME, '"1795176000000"'),
        ("type", '"pay"', "one of open_account, update_account, close_account, deposit, withdraw, transfer", '"pay"'),
        ("type", "[]", "one of open_account, update_account, close_account, deposit, withdraw, transfer", "[]"),
    ],
)
def test_a_wrong_value_is_refused_with_field_expectation_and_value(
    field: str, text: str, expected: str, found: str
) -> None:
    problem = refused(with_text(field, text)).problem
    assert (problem.field, problem.expected, problem.found) == (field, expected, found)


@pytest.mark.parametrize(
    ("field", "value", "where", "expected"),
    [
        ("fees", [1], "fees.0", "an object"),
        ("fees", [{"code": "a", "amount_minor": "1"}], "fees.0.amount_minor", "an integer"),
        ("fees", [{"code": "a"}], "fees.0.amount_minor", "a value"),
        ("fees", [{"code": "a", "amount_minor": 1, "x": 1}], "fees.0.x", "no such field"),
        ("fees", [{"code": "a", "amount_minor": 1}] * 9, "fees", "at most 8 entries"),
        ("fees", [[{"code": "a", "amount_minor": 1}]], "fees.0", "an object"),
        ("metadata", {"a": 1}, "metadata.a", "a string"),
        ("metadata", {"": "x"}, "metadata.(name)", "at least 1 character"),
        ("metadata", {"k" * 65: "x"}, "metadata.(name)", "at most 64 characters"),
        ("metadata", {"a": "x" * 257}, "metadata.a", "at most 256 characters"),
        ("metadata", {str(n): "" for n in range(17)}, "metadata", "at most 16 entries"),
        ("metadata", {"a": None}, "metadata.a", "a value, or no such field"),
        ("metadata", {"a": {"b": [1.5]}}, "metadata.a.b.0", INTEGER),
    ],
)
def test_a_problem_deep_inside_is_named_by_its_path(field: str, value: object, where: str, expected: str) -> None:
    problem = refused(orjson.dumps(TRANSFER | {field: value})).problem
    assert (problem.field, problem.expected) == (where, expected)


@pytest.mark.parametrize(
    "name", ["v", "request_id", "account_id", "requested_at", "amount_minor", "currency", "payee", "type"]
)
def test_a_missing_field_is_named(name: str) -> None:
    problem = refused(orjson.dumps({key: value for key, value in TRANSFER.items() if key != name})).problem
    assert (problem.field, problem.found) == (name, "nothing (the field is missing)")


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-20T24:00:00Z",
        "2026-11-20T12:60:00Z", "2026-12-31T23:59:60Z", "2026-11-20T12:00:00+00:00", "2026-11-20T12:00:00",
        "2026-11-20T12:00:00.000000Z", "2026-11-20T12:00:00.00Z", "2026-11-20T12:00:00.Z", "2026-11-20T12:00:00z",
        "2026-11-20t12:00:00Z", "2026-11-20 12:00:00Z", "2026-11-20T12:00Z", "2026-11-20T12:00:00Z\n",
        " 2026-11-20T12:00:00Z",
        "٣026-11-20T12:00:00Z", "2026-11-20T12:00:0٣Z", "2026-11-20T12:00:00.00٣Z", "2026-11-20T12:00:00,000Z",
        "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-11-20T12:00:-1Z", "2026-11-20T12:00:+1Z", "", "now",
    ],
)  # fmt: skip
def test_every_other_way_to_write_a_time_is_refused(text: str) -> None:
    problem = refused(orjson.dumps(TRANSFER | {"requested_at": text})).problem
    assert problem.field == "requested_at"
    assert problem.expected.startswith(("a UTC time", "a time "))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b'{"a":1,"a":2}', "a"),
        (b'{"a":1,"a":1}', "a"),
        (b'{"a" : 1, "a" : 2}', "a"),
        (b'{"a":1,"\\u0061":2}', "a"),
        (b'{"x":{"a":1,"a":2}}', "a"),
        (b'{"x":[{"a":"::::","a":"b"}]}', "a"),
        (b'{"a":"\\":1","a":2}', "a"),
        (b'{"a:":1,"a:":2}', "a:"),
        (b'{"a":{"b":1},"a":{}}', "a"),
        (b'{"":1,"":2}', ""),
        (b'{"a":1,"a":"\\u0022\\u0022"}', "a"),  # as many quotes as its canonical form {"a":"\\"\\""}
        ('{"é":1,"\\u00e9":2}'.encode(), "é"),
    ],
)
def test_a_duplicate_key_is_refused_wherever_it_hides(text: bytes, key: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_object(text)
    assert (caught.value.field, caught.value.found) == (key, "a duplicate key")


@pytest.mark.parametrize("text", [b'{"a":":","b":"a\\":"}', b'{"a":{"b":1},"c":{"b":1}}', b'{"a" : "\\"" , "b" : []}'])
def test_what_only_looks_like_a_duplicate_key_is_accepted(text: bytes) -> None:
    assert decode_object(text) == orjson.loads(text)


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, 0, True, False, "", [], {}])
def test_every_value_within_the_bounds_is_accepted(value: object) -> None:
    assert decode_object(orjson.dumps({"a": value})) == {"a": value}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "JSON in UTF-8"),
        (b"   ", "JSON in UTF-8"),
        (b"{", "JSON in UTF-8"),
        (b"[]", "an object"),
        (b"null", "an object"),
        (b'"text"', "an object"),
        (b"\xef\xbb\xbf{}", "JSON in UTF-8"),
        (b'{"a":"\xff"}', "JSON in UTF-8"),
        (b'{"a":"\\ud800"}', "JSON in UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "JSON in UTF-8"),
        (b'{"a":NaN}', "JSON in UTF-8"),
        (b'{"a":Infinity}', "JSON in UTF-8"),
        (b'{"a":1}x', "JSON in UTF-8"),
        (b"{'a':1}", "JSON in UTF-8"),
        (b'{"a":"\0"}', "JSON in UTF-8"),
        (b'{"a":"\\u0000"}', "text without NUL"),
        (b'{"a\\u0000":1}', "names without NUL"),
        (b'{"a":{"b\\u0000":1}}', "names without NUL"),
    ],
)
def test_what_is_no_clean_json_object_is_refused(value: bytes, expected: str) -> None:
    assert refused(value).problem.expected == expected


def test_eight_levels_are_accepted_and_nine_refused() -> None:
    assert decode_object(b'{"a":' * 8 + b"1" + b"}" * 8)
    assert decode_object(b'{"a":' + b"[" * 7 + b"1" + b"]" * 7 + b"}")
    for deep in (b'{"a":' * 9 + b"1" + b"}" * 9, b'{"a":' + b"[" * 8 + b"]" * 8 + b"}"):
        assert refused(deep).problem.expected == "at most 8 levels"


@pytest.mark.parametrize("depth", [9, 254, 255, 1_000, 1_024, 30_000])
def test_nesting_of_any_depth_is_refused_and_never_a_crash(depth: int) -> None:
    for value in (b"[" * depth + b"]" * depth, b'{"type":' * depth + b"1" + b"}" * depth):
        found = decode_request(value[:MAX_REQUEST_BYTES], MAX_REQUEST_BYTES)
        assert isinstance(found, Unreadable)
        assert found.reason == "malformed"
        assert len(str(found.problem)) < 300


def test_64_kib_are_accepted_and_one_byte_more_is_too_large() -> None:
    value = orjson.dumps(TRANSFER)
    accepted(value + b" " * (MAX_REQUEST_BYTES - len(value)))
    found = refused(value + b" " * (MAX_REQUEST_BYTES - len(value) + 1))
    assert (found.reason, found.problem.found) == ("too_large", "65537 bytes")


def test_a_caller_may_set_another_bound() -> None:
    assert decode_object(b"{}  ", max_bytes=4) == {}
    with pytest.raises(Malformed, match="at most 4 bytes, found 5 bytes"):
        decode_object(b"{}   ", max_bytes=4)


def test_a_record_without_a_value_is_refused() -> None:
    found = refused(None)
    assert (found.reason, found.problem.found, found.request_id) == ("malformed", "null", None)


def test_an_unreadable_request_keeps_the_ids_that_can_be_read() -> None:
    found = refused(orjson.dumps(TRANSFER | {"amount_minor": 0}))
    assert (found.request_id, found.account_id, found.type, found.reason) == ("r-1", "alice", "transfer", "malformed")
    found = refused(orjson.dumps(TRANSFER | {"request_id": "a b", "account_id": ["x"], "type": "?"}))
    assert (found.request_id, found.account_id, found.type) == (None, None, None)
    found = refused(orjson.dumps(TRANSFER | {"account_id": "sys:fees:EUR"}))
    assert (found.request_id, found.account_id) == ("r-1", None)


def test_a_type_of_a_later_version_is_unsupported_and_keeps_its_ids() -> None:
    found = refused(orjson.dumps(TRANSFER | {"type": "refund"}))
    assert (found.reason, found.request_id, found.account_id, found.type) == (
        "unsupported_type", "r-1", "alice", "refund",
    )  # fmt: skip


@pytest.mark.parametrize(
    "account_id", ["s", "sy", "sys", "sysx", "sy:", "s:", "SYS:x", "a", "x" * 64, "A.b_c:d~e-9", "0"]
)
def test_an_account_id_may_be_anything_but_a_system_account(account_id: str) -> None:
    assert accepted(orjson.dumps(TRANSFER | {"account_id": account_id})).request.account_id == account_id


def test_an_update_needs_something_to_update() -> None:
    update = {name: TRANSFER[name] for name in ("v", "request_id", "account_id", "requested_at")} | {
        "type": "update_account"
    }
    assert (
        refused(orjson.dumps(update)).problem.expected == "one of attributes, ceiling_minor, floor_minor, status, tier"
    )
    accepted(orjson.dumps(update | {"floor_minor": 0}))
    assert refused(orjson.dumps(update | {"status": "closed"})).problem.expected == "one of 'open' or 'frozen'"


@pytest.mark.parametrize("value", ["x", "", 1, True, False, -(2**63), 2**63 - 1])
def test_attributes_keep_the_type_of_each_value(value: object) -> None:
    request = accepted(orjson.dumps(OPEN | {"attributes": {"a": value}})).request
    attributes = getattr(request, "attributes", None)
    assert attributes == {"a": value}
    assert type(attributes["a"]) is type(value)


@pytest.mark.parametrize(
    ("change", "where", "expected"),
    [
        ({"tiers": {}}, "tiers", "at least 1 entry"),
        ({"tiers": {"vip": {"limits": []}}}, "value", "tiers to hold 'standard'"),
        ({"tiers": {"standard": {"limits": [{"type": "transfer", "currency": "EUR"}]}}}, "tiers.standard.limits.0",
         "per_transaction_minor, daily_sum_minor or daily_count"),
        ({"tiers": {"standard": {"limits": [{"type": "transfer", "currency": "EUR", "daily_count": 1}] * 2}}},
         "tiers.standard", "one entry for transfer in EUR"),
        ({"near_duplicates": {"window_s": 86_401, "action": "tag"}}, "near_duplicates.window_s",
         "an integer of at most 86400"),
        ({"near_duplicates": {"window_s": 60, "action": "drop"}}, "near_duplicates.action",
         "one of 'pass', 'tag' or 'decline'"),
        ({"scoring": {"decline_at": 0}}, "scoring.decline_at", "an integer of at least 1"),
        ({"version": "a b"}, "version", "1 to 32 characters of A-Z a-z 0-9 . _ -"),
    ],
)  # fmt: skip
def test_a_wrong_bundle_is_refused_with_its_place(change: dict[str, Any], where: str, expected: str) -> None:
    bundle = {"v": 1, "kind": "bundle", "version": "1", "tiers": {"standard": {"limits": []}},
              "near_duplicates": {"window_s": 60, "action": "tag"}, "scoring": {}}  # fmt: skip
    decode_bundle(orjson.dumps(bundle))
    with pytest.raises(Malformed) as caught:
        decode_bundle(orjson.dumps(bundle | change))
    assert (caught.value.field, caught.value.expected) == (where, expected)
