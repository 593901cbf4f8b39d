"""What the bench sends is what it says: the same accounts on every partition, payments that stay on one."""

import itertools

import orjson
import pytest

from bench.memory import measure
from bench.payments import PARTITIONS, Accounts, Payments
from schemas.records import partition_of


def test_accounts_lie_evenly_on_the_partitions_that_own_them() -> None:
    accounts = Accounts.named(80)
    assert [len(names) for names in accounts.by_partition] == [10] * PARTITIONS
    assert len(set(accounts.all())) == 80
    for partition, names in enumerate(accounts.by_partition):
        assert {partition_of(name.encode(), PARTITIONS) for name in names} == {partition}


def test_too_few_accounts_for_every_partition_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 accounts"):
        Accounts.named(15)


def test_payments_have_ids_of_their_own_and_stay_on_a_partition() -> None:
    accounts = Accounts.named(80)
    payments = Payments(accounts, "r1", 3)
    sent = [payments.next("2026-11-20T12:00:00.000Z") for _ in range(500)]
    bodies = [orjson.loads(one.value) for one in sent]
    assert len({body["request_id"] for body in bodies}) == 500
    for one, body in zip(sent, bodies, strict=True):
        assert one.key.decode() == body["account_id"] != body["payee"]
        assert partition_of(body["payee"].encode(), PARTITIONS) == partition_of(one.key, PARTITIONS)


def test_the_same_seed_gives_the_same_payments() -> None:
    streams = [Payments(Accounts.named(80), "r", 7) for _ in range(2)]
    one, other = ([stream.next("2026-11-20T12:00:00.000Z") for _ in range(20)] for stream in streams)
    assert one == other


def test_the_memory_measurement_is_of_accepted_requests() -> None:
    found = measure(160)
    assert found["requests"] == 160 * (1 + 1 + 1 + 4)
    assert list(itertools.islice(found, 2)) == ["accounts", "requests"]
