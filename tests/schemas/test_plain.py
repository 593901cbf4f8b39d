"""Whatever the quick reader of transfers takes, the one decoder of requests reads alike; the rest it leaves alone."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bounds import MAX_AMOUNT_MINOR, MAX_REQUEST_BYTES
from schemas.currencies import EXPONENTS
from schemas.plain import PlainTransfer, read_plain_transfer
from schemas.requests import Decoded, Transfer, decode_request
from schemas.times import format_time
from tests.schemas.test_strictness import TRANSFER

BODY = orjson.dumps(TRANSFER)
OPTIONAL = ("metadata", "merchant", "category", "device", "country", "channel", "fees")

# Borderline values of each kind of field, right and wrong, as JSON.
NUMBERS = [
    "0", "1", "-1", "-0", "00", "01", "1.0", "1.", ".5", "1e0", "1E2", "1e-2", "100e-2", "1e400", "+1", "0x1",
    "1_0", "Infinity", "NaN", "true", "false", "null", '"1"', "[]", "{}", "[1]", str(MAX_AMOUNT_MINOR),
    str(MAX_AMOUNT_MINOR + 1), str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), str(2**64 - 1),
    str(2**64), "9" * 400,
]  # fmt: skip
TEXTS = [
    "", " ", "a", "a b", " a", "a ", "None", "null", "-", "~", "!", "\x7f", "\x80", "é", "٣", "\U0001f600",
    "a" * 64, "a" * 65, "~" * 64, "é" * 64, "x" * 256, "x" * 257, "sys", "sys:", "sys:fees:EUR", "sysx", "Sys:x",
    "s", "sy", "a/b", "a\\b", 'a"b', "a\0b", "a\nb", "a\tb", "a\u2028b", "\ufeffa",
    "EUR", "eur", "EURO", "EU", "XXX", "FR", "fr", "FRA", "F", "F1", "ÉÉ", "transfer", "deposit",
    "2026-11-20T12:00:00.000Z", "2026-11-20T12:00:00Z", "2026-11-20T12:00:00.00Z", "2026-11-20T12:00:00+00:00",
    "2026-11-20T12:00:60Z", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "2026-11-20t12:00:00z",
    "2026-11-20T12:00:0٣Z",
]  # fmt: skip
MANY = [
    *(json.dumps([{"code": "a", "amount_minor": 1}] * count) for count in (0, 8, 9)),
    *(json.dumps({str(key): "" for key in range(count)}) for count in (0, 16, 17)),
]
TOKENS = [
    *MANY,
    *NUMBERS,
    *(json.dumps(text, ensure_ascii=False) for text in TEXTS),
    '"\\u0061"',
    '"\\ud800"',
    '"a\x01"',
    "'a'",
]
PLACES = [
    *((name,) for name in TRANSFER), ("category",), ("device",), ("channel",), ("unknown",), ("rail",), ("",),
    ("metadata", "order"), ("metadata", ""), ("metadata", "é" * 64), ("metadata", "k" * 65), ("fees", 0),
    ("fees", 0, "code"), ("fees", 0, "amount_minor"), ("fees", 0, "unknown"),
]  # fmt: skip


def plain_as_decoded(value: bytes) -> PlainTransfer | None:
    """Read *value* quickly; what comes out must be what the one decoder reads: fields, their types, fingerprint."""
    found = read_plain_transfer(value)
    if found is None:
        return None
    transfer, requested_at, fingerprint = found
    decoded = decode_request(value, MAX_REQUEST_BYTES)
    assert isinstance(decoded, Decoded), (value, decoded)
    assert isinstance(decoded.request, Transfer)
    assert (decoded.fingerprint, decoded.request.requested_at) == (fingerprint, requested_at), value
    assert (decoded.request_id, decoded.account_id, decoded.type) == (
        transfer.request_id, transfer.account_id, transfer.type,
    )  # fmt: skip
    expected, fields = (
        decoded.request.__dict__,
        {name: getattr(transfer, name) for name in PlainTransfer.__struct_fields__},
    )
    assert expected.keys() == fields.keys()
    pairs = [(expected[name], fields[name]) for name in fields if name not in {"requested_at", "fees"}]
    assert len(expected["fees"]) == len(transfer.fees)
    for one, other in zip(expected["fees"], transfer.fees, strict=True):
        pairs += [(one.code, other.code), (one.amount_minor, other.amount_minor)]
    assert all(type(one) is type(other) and one == other for one, other in pairs), value
    return transfer


def with_token(place: tuple[str | int, ...], token: str) -> bytes:
    """The body with the JSON *token* at *place*."""
    tree: Any = orjson.loads(BODY)
    node = tree
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = "@@"
    return orjson.dumps(tree).replace(b'"@@"', token.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_value_of_any_kind_in_any_place_is_read_alike(place: tuple[str | int, ...]) -> None:
    for token in TOKENS:
        plain_as_decoded(with_token(place, token))


def test_a_transfer_with_any_one_byte_changed_added_or_left_out_is_read_alike() -> None:
    plain = 0
    for at in range(len(BODY) + 1):
        plain_as_decoded(BODY[:at] + BODY[at + 1 :])
        for byte in range(256):
            plain += plain_as_decoded(BODY[:at] + bytes([byte]) + BODY[at + 1 :]) is not None
            plain += plain_as_decoded(BODY[:at] + bytes([byte]) + BODY[at:]) is not None
    assert plain > 5_000


@pytest.mark.parametrize("name", [*TRANSFER, "category"])
@pytest.mark.parametrize("token", ["null", "1", '"a"', "[]", "{}", '"EUR"', '"transfer"'])
def test_a_key_that_stands_twice_is_never_plain(name: str, token: str) -> None:
    text = orjson.dumps(TRANSFER | {"category": "c"})
    twice = b'"%b":%b' % (name.encode(), token.encode())
    again = b'"%b":%b' % (name.encode(), orjson.dumps((TRANSFER | {"category": "c"})[name]))
    assert read_plain_transfer(text) is not None
    for extra in (twice, again):
        assert read_plain_transfer(b"{" + extra + b"," + text[1:]) is None
        assert read_plain_transfer(text[:-1] + b"," + extra + b"}") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"order":', b'{"order":"A1","order":'), (b'{"order":', b'{"order":"","order":'),
        (b'{"code":', b'{"code":"svc","code":'), (b'"fees":[{', b'"fees":[],"fees":[{'),
        (b'"amount_minor":10', b'"amount_minor":10,"amount_minor":10'),
    ],
)  # fmt: skip
def test_a_key_that_stands_twice_inside_is_never_plain(old: bytes, new: bytes) -> None:
    assert BODY.count(old) == 1 or old == b'"amount_minor":10'
    assert read_plain_transfer(BODY) is not None
    assert read_plain_transfer(BODY.replace(old, new, 1)) is None


@pytest.mark.parametrize("byte", range(256))
def test_what_stands_between_the_tokens_is_read_alike(byte: int) -> None:
    for text in (BODY, BODY.replace(b":", b" : ").replace(b",", b" , ")):
        for old in (b"{", b"}", b":", b",", b"[", b"]"):
            for new in (bytes([byte]) + old, old + bytes([byte])):
                plain_as_decoded(text.replace(old, new, 1))
                plain_as_decoded(text.replace(old, new))


@pytest.mark.parametrize("depth", [1, 9, 1_000, 30_000])
def test_nesting_of_any_depth_is_not_plain(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"type":', b"}"), (b'{"fees":[', b"]}")):
        nested = opening * depth + b"1" + closing * depth
        assert read_plain_transfer(nested[:MAX_REQUEST_BYTES]) is None
        for name in TRANSFER:
            assert read_plain_transfer(with_token((name,), nested.decode())) is None


def test_a_transfer_above_64_kib_is_not_plain() -> None:
    assert read_plain_transfer(BODY + b" " * (MAX_REQUEST_BYTES - len(BODY))) is not None
    assert read_plain_transfer(BODY + b" " * (MAX_REQUEST_BYTES - len(BODY) + 1)) is None


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='\\"'), min_size=1, max_size=64)
ACCOUNT = st.from_regex(r"(?!sys:)[A-Za-z0-9._:~-]{1,64}", fullmatch=True)
UNESCAPED = st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters='\\"')
VALID: dict[str, st.SearchStrategy[Any]] = {
    "v": st.just(1),
    "type": st.just("transfer"),
    "request_id": WORD,
    "account_id": ACCOUNT,
    "requested_at": st.integers(0, 253_402_300_799_999).map(format_time),
    "amount_minor": st.integers(1, MAX_AMOUNT_MINOR),
    "currency": st.sampled_from(sorted(EXPONENTS)),
    "payee": ACCOUNT,
    "merchant": WORD,
    "category": WORD,
    "device": WORD,
    "channel": WORD,
    "country": st.from_regex(r"[A-Z]{2}", fullmatch=True),
    "metadata": st.dictionaries(
        st.text(UNESCAPED, min_size=1, max_size=64), st.text(UNESCAPED, max_size=256), max_size=16
    ),
    "fees": st.lists(st.fixed_dictionaries({"code": WORD, "amount_minor": st.integers(1, 99)}), min_size=1, max_size=8),
}
TRANSFERS = st.fixed_dictionaries(
    {name: strategy for name, strategy in VALID.items() if name not in OPTIONAL},
    optional={name: VALID[name] for name in OPTIONAL},
).flatmap(lambda tree: st.permutations(list(tree.items())).map(dict))
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=70), st.sampled_from(TEXTS),
    st.lists(st.integers(0, 2), max_size=3), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
)  # fmt: skip


@given(TRANSFERS, st.sampled_from([None, 1, "\t"]), st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]))
def test_every_transfer_without_escapes_is_plain_however_it_is_written(
    tree: dict[str, Any], indent: int | str | None, separators: tuple[str, str]
) -> None:
    value = json.dumps(tree, ensure_ascii=False, indent=indent, separators=separators).encode()
    assert plain_as_decoded(value) is not None


@given(TRANSFERS, st.dictionaries(st.sampled_from([*VALID, "unknown"]), ANYTHING, max_size=2), st.booleans())
def test_a_transfer_with_anything_in_it_is_read_alike(
    tree: dict[str, Any], changes: dict[str, Any], ascii_only: bool
) -> None:
    value = json.dumps(tree | changes, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    plain_as_decoded(value)


@given(TRANSFERS, st.binary(max_size=6), st.data())
def test_a_transfer_with_any_piece_cut_out_or_put_in_is_read_alike(
    tree: dict[str, Any], piece: bytes, data: st.DataObject
) -> None:
    value = orjson.dumps(tree)
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(value)), st.integers(0, len(value)))))
    plain_as_decoded(value[:start] + piece + value[end:])
    plain_as_decoded(value[:start] + value[start:end] * 2 + value[end:])
