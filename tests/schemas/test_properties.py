"""Properties of the codec and of records, on random data."""

import hashlib
import json
import sys
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed, canonical, decode_object, fingerprint
from schemas.outcomes import parse_transaction_id, transaction_id
from schemas.records import RawRecord, frame, input_hash, partition_of, unframe
from schemas.requests import Decoded, Unreadable, decode_request
from schemas.times import format_time, parse_time
from tests.schemas.test_strictness import TRANSFER

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
LEAF = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1)
TREE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
OBJECT = st.dictionaries(TEXT, TREE, max_size=4).filter(lambda tree: depth(tree) <= 8)
BYTES = st.binary(max_size=40)
RECORD = st.builds(
    RawRecord,
    st.none() | BYTES,
    st.lists(st.tuples(TEXT, st.none() | BYTES), max_size=4).map(tuple),
    st.none() | BYTES,
)
NEARLY_JSON = st.text(alphabet='{}[]":,\\ue01.-truefalsn \n', max_size=40).map(str.encode)


def depth(node: object) -> int:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return (1 if isinstance(node, dict | list) else 0) + max(map(depth, inner), default=0)


def shuffled(node: Any) -> Any:
    """Return *node* with the keys of every object in reverse order."""
    if isinstance(node, dict):
        return {key: shuffled(node[key]) for key in reversed(node)}
    return [shuffled(one) for one in node] if isinstance(node, list) else node


def by_bytes(node: Any) -> Any:
    """Return *node* with the keys of every object in the order of their UTF-8 bytes."""
    if isinstance(node, dict):
        return {key: by_bytes(node[key]) for key in sorted(node, key=str.encode)}
    return [by_bytes(one) for one in node] if isinstance(node, list) else node


@given(st.none() | st.binary(max_size=200) | NEARLY_JSON | OBJECT.map(orjson.dumps))
def test_decoding_never_raises(value: bytes | None) -> None:
    assert isinstance(decode_request(value, MAX_REQUEST_BYTES), Decoded | Unreadable)


@given(st.sampled_from(sorted(TRANSFER)), TREE | st.none() | st.floats(), st.booleans())
def test_decoding_never_raises_for_a_changed_request(field: str, value: object, escaped: bool) -> None:
    text = json.dumps(TRANSFER | {field: value}, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    found = decode_request(text, MAX_REQUEST_BYTES)
    assert isinstance(found, Unreadable) or getattr(found.request, field) is not None


@given(OBJECT, st.booleans(), st.sampled_from([None, 2]))
def test_an_object_decodes_to_itself_however_it_is_written(
    tree: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    assert decode_object(json.dumps(tree, ensure_ascii=ascii_only, indent=indent).encode()) == tree


@given(st.lists(st.tuples(TEXT, LEAF), min_size=1, max_size=4), st.data(), st.booleans(), st.booleans())
def test_a_repeated_key_is_always_found(
    pairs: list[tuple[str, Any]], data: st.DataObject, ascii_only: bool, nested: bool
) -> None:
    again = data.draw(st.sampled_from(pairs))[0]
    position = data.draw(st.integers(0, len(pairs)))
    pairs = [*pairs[:position], (again, data.draw(LEAF)), *pairs[position:]]
    text = ",".join(f"{json.dumps(key, ensure_ascii=ascii_only)} : {json.dumps(value)}" for key, value in pairs)
    value = f'{{"x":[{{{text}}}]}}' if nested else f"{{{text}}}"
    with pytest.raises(Malformed, match="a duplicate key"):
        decode_object(value.encode())


@given(OBJECT)
def test_the_canonical_form_is_that_of_the_standard_library_with_keys_sorted_by_bytes(tree: dict[str, Any]) -> None:
    expected = json.dumps(by_bytes(tree), ensure_ascii=False, separators=(",", ":")).encode()
    assert canonical(tree) == expected
    assert fingerprint(tree) == hashlib.sha256(expected).digest()[:16]


@given(OBJECT, st.booleans(), st.sampled_from([None, 1]))
def test_the_fingerprint_depends_on_the_value_and_not_on_how_it_is_written(
    tree: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    written = json.dumps(shuffled(tree), ensure_ascii=ascii_only, indent=indent).encode()
    assert fingerprint(decode_object(written)) == fingerprint(tree)


@given(OBJECT, OBJECT)
def test_other_values_have_other_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (repr(by_bytes(one)) == repr(by_bytes(other)))


@pytest.mark.parametrize("field", sorted(TRANSFER.keys() - {"v", "type", "fees", "metadata"}))
def test_every_field_counts_for_the_fingerprint_of_a_request(field: str) -> None:
    changed = {
        "amount_minor": 1251, "currency": "USD", "country": "DE", "requested_at": "2026-11-20T12:00:00Z",
    }.get(field, "other")  # fmt: skip
    one = decode_request(orjson.dumps(TRANSFER), MAX_REQUEST_BYTES)
    other = decode_request(orjson.dumps(TRANSFER | {field: changed}), MAX_REQUEST_BYTES)
    assert isinstance(one, Decoded)
    assert isinstance(other, Decoded), other
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == fingerprint(TRANSFER)


def test_both_encoders_write_every_character_alike() -> None:
    """Outcomes of a replay and fingerprints are written by orjson too, events and other outcomes by msgspec only."""
    for first in range(0, sys.maxunicode + 1, 4096):
        text = "".join(chr(code) for code in range(first, first + 4096) if not 0xD800 <= code < 0xE000)
        assert msgspec.json.encode({text: text}) == canonical({text: text})


@given(RECORD)
def test_unframe_is_the_inverse_of_frame(record: RawRecord) -> None:
    framed = frame(record)
    assert unframe(framed) == record
    assert unframe(memoryview(framed)) == record
    assert input_hash(framed) == hashlib.sha256(framed).hexdigest()


@given(RECORD, st.data())
def test_a_cut_or_longer_framing_is_refused(record: RawRecord, data: st.DataObject) -> None:
    framed = frame(record)
    with pytest.raises(ValueError, match="framed record"):
        unframe(framed[: data.draw(st.integers(0, len(framed) - 1))])
    with pytest.raises(ValueError, match="framed record"):
        unframe(framed + b"\0")


@given(st.binary(max_size=80), st.integers(1, 1000))
def test_partitions_are_those_of_the_kafka_client(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829), (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)  # fmt: skip
def test_partitions_are_those_of_kafkas_own_test_vectors(key: bytes, hashed: int) -> None:
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    assert partition_of(key, 2**31) == hashed & 0x7FFFFFFF


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_read_as_it_was_written(milliseconds: int) -> None:
    text = format_time(milliseconds)
    assert parse_time(text) == milliseconds
    assert len(text) == 24
    assert parse_time(text[:19] + "Z") == milliseconds // 1000 * 1000


@pytest.mark.parametrize("milliseconds", [-1, 253_402_300_800_000])
def test_a_time_outside_of_the_format_is_not_written(milliseconds: int) -> None:
    with pytest.raises(ValueError, match="from 1970 to 9999"):
        format_time(milliseconds)


@given(st.integers(0, 1000), st.integers(1, 2**63 - 1))
def test_a_transaction_id_is_read_as_it_was_written(partition: int, seq: int) -> None:
    assert parse_transaction_id(transaction_id(partition, seq)) == (partition, seq)


@pytest.mark.parametrize("text", ["", "3", "-3", "3-", "3-0", "-1-5", "3-1-2", "٣-1", "3-1\n", " 3-1", "3-+1", "a-b"])
def test_what_is_no_transaction_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a transaction id"):
        parse_transaction_id(text)
