"""Everybody finds the partition of an account in the same way: the engine, aiokafka, and Kafka's own Java client."""

import json
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2

from schemas.records import partition_of
from tests.examples.vectors import ALPHABET, FILE, PARTITIONS, account_ids, by_java, text

VECTORS = json.loads(FILE.read_text("utf-8"))["vectors"]


@pytest.mark.integration
def test_the_vectors_are_those_of_kafkas_own_java_client(java_classes: Path) -> None:
    assert text(by_java(java_classes)) == FILE.read_text("utf-8"), (
        "python -m tests.examples.vectors writes the file anew"
    )


def test_the_engine_expects_an_account_where_kafkas_own_client_sends_it() -> None:
    for vector in VECTORS:
        key = vector["account_id"].encode()
        assert [partition_of(key, count) for count in PARTITIONS] == vector["partition"], vector["account_id"]


def test_aiokafka_sends_an_account_where_kafkas_own_client_sends_it() -> None:
    choose = DefaultPartitioner()
    for vector in VECTORS:
        key = vector["account_id"].encode()
        assert murmur2(key) in {vector["murmur2"], vector["murmur2"] % 2**32}
        assert [choose(key, [*range(count)], [*range(count)]) for count in PARTITIONS] == vector["partition"]


def test_the_vectors_hold_every_length_every_character_and_hashes_of_both_signs() -> None:
    assert [vector["account_id"] for vector in VECTORS] == account_ids()
    assert {len(vector["account_id"]) for vector in VECTORS} >= {*range(1, 65)}
    assert {*"".join(vector["account_id"] for vector in VECTORS)} == {*ALPHABET}
    assert {vector["murmur2"] < 0 for vector in VECTORS} == {True, False}


def test_the_wrong_partitioners_that_the_manual_warns_of_fail_the_vectors() -> None:
    """A partitioner that keeps the sign bit is right for powers of two only: hence other counts in the file."""
    for number, count in enumerate(PARTITIONS):
        wrong = [v for v in VECTORS if (v["murmur2"] % 2**32) % count != v["partition"][number]]
        assert bool(wrong) == (count & (count - 1) != 0), count
