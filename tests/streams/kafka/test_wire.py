"""Our bytes against aiokafka's: what is written reads the same there, and what is written there reads the same here."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v3
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka import Isolation, Partition
from streams.kafka.wire import MAX_BYTES, MAX_PARTITION_BYTES, FetchedBytes, Produced, fetch, produce

int16, int32, int64 = (st.integers(-(2**bits), 2**bits - 1) for bits in (15, 31, 63))
places = st.builds(Partition, st.sampled_from(["t.requests", "t.journal", "ü"]), st.integers(0, 2**31 - 1))
waits = st.integers(0, 2**31 - 1)


def answered(request: Any, response: Any) -> Any:
    """As aiokafka's connection does it: the header with the correlation id, then the body."""
    frame = BytesIO(b"\x00\x00\x00\x07" + response.encode())
    assert request.parse_response_header(frame).correlation_id == 7
    return request.RESPONSE_TYPE.decode(frame)


def by_topic(items: dict[Partition, Any]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """As aiokafka nests it; a tuple of an item follows its partition flat."""
    topics: dict[str, list[tuple[Any, ...]]] = {}
    for place, item in items.items():
        topics.setdefault(place.topic, []).append((place.number, *item))
    return [*topics.items()]


@given(st.dictionaries(places, st.binary(max_size=50), max_size=6), waits)
def test_batches_to_append_are_written_as_aiokafka_writes_them(batches: dict[Partition, bytes], wait_ms: int) -> None:
    theirs = ProduceRequest_v3(None, -1, wait_ms, by_topic({place: (data,) for place, data in batches.items()}))
    assert produce([*batches.items()], wait_ms).encode() == theirs.encode()


@given(st.dictionaries(places, st.tuples(int16, int64, int64), max_size=6))
def test_what_became_of_batches_is_read_as_aiokafka_writes_it(answers: dict[Partition, tuple[int, int, int]]) -> None:
    response = ProduceResponse_v3(by_topic(answers), 0)
    assert answered(produce([], 0), response) == {place: Produced(*answer) for place, answer in answers.items()}


@given(st.dictionaries(places, int64, max_size=6), st.sampled_from(Isolation), waits)
def test_a_fetch_is_written_as_aiokafka_writes_it(
    offsets: dict[Partition, int], isolation: Isolation, wait_ms: int
) -> None:
    asked = by_topic({place: (offset, MAX_PARTITION_BYTES) for place, offset in offsets.items()})
    level = {Isolation.COMMITTED: 1, Isolation.UNCOMMITTED: 0}[isolation]
    theirs = FetchRequest_v4(-1, wait_ms, 1, MAX_BYTES, level, asked)
    assert fetch(offsets.items(), isolation, wait_ms).encode() == theirs.encode()


fetched = st.builds(
    FetchedBytes, int16, int64, int64, st.lists(st.tuples(int64, int64), max_size=3), st.binary(max_size=50)
)


@given(st.dictionaries(places, fetched, max_size=6))
def test_what_was_fetched_is_read_as_aiokafka_writes_it(answers: dict[Partition, FetchedBytes]) -> None:
    response = FetchResponse_v4(0, by_topic(answers))
    assert answered(fetch([], Isolation.COMMITTED, 0), response) == answers


def test_null_lists_and_null_batches_of_an_answer_are_empty() -> None:
    response = FetchResponse_v4(0, by_topic({Partition("t", 1): (0, 9, 8, None, None)}))
    assert answered(fetch([], Isolation.COMMITTED, 0), response) == {Partition("t", 1): FetchedBytes(0, 9, 8, [], b"")}


@given(st.text(max_size=20), int32)
def test_the_header_is_written_as_aiokafka_writes_it(client_id: str, correlation_id: int) -> None:
    theirs = FetchRequest_v4(-1, 0, 1, 1, 0, []).build_request_header(correlation_id, client_id)
    ours = fetch([], Isolation.COMMITTED, 0).build_request_header(correlation_id=correlation_id, client_id=client_id)
    assert ours.encode() == theirs.encode()


def test_a_broker_that_does_not_know_the_version_is_refused() -> None:
    request = produce([], 0)
    assert request.prepare({0: (3, 13)}) is request
    for versions in ({0: (4, 13)}, {0: (0, 2)}, {1: (3, 3)}):
        with pytest.raises(IncompatibleBrokerVersion, match="version 3 of request 0"):
            request.prepare(versions)
