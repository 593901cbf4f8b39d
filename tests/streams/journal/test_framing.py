"""The bytes of journal records."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bounds import MAX_BLOCK_BYTES
from schemas.records import RawRecord, frame
from streams.journal.framing import (
    MAX_INTEGER,
    BlockBody,
    BlockHeaders,
    BlockTooLarge,
    FramingError,
    GenesisHeaders,
    Headers,
    LeaseHeaders,
    NewerFormat,
    RecordHeaders,
    decode_headers,
    encode_block,
    encode_headers,
    first_chain,
    next_chain,
    open_block,
    record_hash,
)
from tests.streams.journal.building import block, body, genesis, header, lease

integers = st.integers(1, MAX_INTEGER)
tokens = st.binary(min_size=16, max_size=16)
headers_of_any_kind: st.SearchStrategy[RecordHeaders] = st.one_of(
    st.just(GenesisHeaders(format=1)),
    st.builds(LeaseHeaders, format=st.just(1), epoch=integers, token=tokens),
    st.builds(
        BlockHeaders,
        format=st.just(1),
        epoch=integers,
        token=tokens,
        seq=integers,
        count=st.integers(1, 2_000),
        chain=st.binary(min_size=32, max_size=32),
        published_through=st.integers(0, MAX_INTEGER),
    ),
)


@given(headers_of_any_kind)
def test_headers_are_read_as_they_were_written(headers: RecordHeaders) -> None:
    assert decode_headers(encode_headers(headers)) == headers


def test_headers_are_text_that_a_person_can_read() -> None:
    headers = BlockHeaders(
        format=1, epoch=12, token=b"\xab" * 16, seq=7, count=3, chain=b"\x0f" * 32, published_through=6
    )
    assert encode_headers(headers) == (
        ("kind", b"block"),
        ("format", b"1"),
        ("epoch", b"12"),
        ("token", b"ab" * 16),
        ("seq", b"7"),
        ("count", b"3"),
        ("chain", b"0f" * 32),
        ("published_through", b"6"),
    )


GOOD = block(3, "a", 5, bytes(32), 1, 2)[0]


@pytest.mark.parametrize(
    "bad",
    [
        (),
        GOOD[:1],
        GOOD[:-1],
        (*GOOD, ("more", b"1")),
        (*GOOD, GOOD[-1]),
        (GOOD[1], GOOD[0], *GOOD[2:]),
        (*GOOD[:3], GOOD[4], GOOD[3], *GOOD[5:]),
        *(
            header((GOOD, b""), **{name: value})[0]
            for name, value in [
                ("kind", b"Block"),
                ("kind", None),
                ("format", b"0"),
                ("format", b"01"),
                ("epoch", b"0"),
                ("epoch", b"-1"),
                ("epoch", b"+3"),
                ("epoch", b" 3"),
                ("epoch", b"3_0"),
                ("epoch", b""),
                ("epoch", b"\xb2"),
                ("epoch", b"9223372036854775808"),
                ("epoch", b"1" * 5_000),
                ("epoch", None),
                ("seq", b"0"),
                ("seq", b"007"),
                ("count", b"0"),
                ("count", b"2001"),
                ("token", b"AB" * 16),
                ("token", b"ab" * 15),
                ("token", b"ab " * 10 + b"ab"),
                ("token", b"\xff" * 32),
                ("token", None),
                ("chain", b"ab" * 16),
                ("published_through", b"x"),
            ]
        ),
    ],
)
def test_headers_that_no_writer_sends_are_refused(bad: Headers) -> None:
    with pytest.raises(FramingError):
        decode_headers(bad)


def test_a_newer_format_is_told_from_garbage_whatever_its_other_headers_are() -> None:
    with pytest.raises(NewerFormat):
        decode_headers((("kind", b"novelty"), ("format", b"2"), ("unheard-of", None)))


@given(st.binary(), st.binary())
def test_a_block_value_is_read_as_it_was_written(events_json: bytes, raw: bytes) -> None:
    value = encode_block(BlockBody(events_json, raw), 1)
    assert value[:4] == struct.pack(">I", len(events_json))
    opened = open_block(value)
    assert (opened.events_json, bytes(opened.raw)) == (events_json, raw)


@pytest.mark.parametrize(
    "value", [None, b"", b"\0\0\0", b"\0\0\0\x05[1,2", b"\xff\xff\xff\xff[]", bytes(MAX_BLOCK_BYTES + 1)]
)
def test_a_block_value_that_no_writer_sends_is_refused(value: bytes | None) -> None:
    with pytest.raises(FramingError):
        open_block(value)


def test_an_oversized_block_is_refused_before_it_is_sent() -> None:
    assert len(encode_block(BlockBody(b"[]", bytes(MAX_BLOCK_BYTES - 6)), 2_000)) == MAX_BLOCK_BYTES
    with pytest.raises(BlockTooLarge):
        encode_block(BlockBody(b"[]", bytes(MAX_BLOCK_BYTES - 5)), 2_000)
    for count in (0, 2_001):
        with pytest.raises(BlockTooLarge):
            encode_block(BlockBody(b"[]", b""), count)


def test_the_chain_is_the_documented_hash() -> None:
    value = encode_block(body(1), 1)
    written_out = bytes(range(32)) + b"block" + b"\x00" + b"\x00\x01" + bytes(7) + b"\x09" + b"\x00\x00\x00\x01" + value
    assert next_chain(bytes(range(32)), 1, 9, 1, value) == hashlib.sha256(written_out).digest()
    assert first_chain(b"genesis value") == hashlib.sha256(b"genesis value").digest()


@given(
    st.none() | st.binary(),
    st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.none() | st.binary())),
    st.none() | st.binary(),
)
def test_the_record_hash_is_over_the_framing_of_a_block(
    key: bytes | None, headers: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    framed = frame(RawRecord(key, tuple(headers), value))
    assert record_hash(key, tuple(headers), value) == hashlib.sha256(framed).digest()


def test_records_made_for_tests_are_well_formed() -> None:
    for message in (genesis(), lease(1, "a"), block(1, "a", 1, bytes(32), 1)):
        decode_headers(message[0])
