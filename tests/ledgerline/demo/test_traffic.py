"""The demo's traffic: what it claims to send is what it sends."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from ledgerline.demo.timeline import percentile
from ledgerline.demo.traffic import BREAKAGES, PER_THOUSAND, SAMPLE, Traffic, fundings, openings, read_sample
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.records import partition_of
from schemas.requests import Decoded, Unreadable, decode_request

NOW_MS = 1_790_000_000_000
PARTITIONS = 8


def test_payer_and_payee_of_every_payment_lie_on_the_same_partition() -> None:
    for payment in read_sample(SAMPLE, 2_000, PARTITIONS).payments:
        assert partition_of(payment.payer.encode(), PARTITIONS) == partition_of(payment.payee.encode(), PARTITIONS)


def test_every_account_that_is_paid_from_or_to_is_opened_and_every_payer_is_funded() -> None:
    sample = read_sample(SAMPLE, 2_000, PARTITIONS)
    opened = {request.key.decode() for request in openings([*sample.customers, *sample.settlements], NOW_MS)}
    funded = {request.key.decode() for request in fundings(sample.customers, NOW_MS)}
    assert {payment.payer for payment in sample.payments} == funded
    assert funded | {payment.payee for payment in sample.payments} == opened


def test_troublesome_requests_come_at_the_stated_rates_and_are_what_they_are_called() -> None:
    number = 20_000
    sent = Traffic(read_sample(SAMPLE, number, PARTITIONS).payments, number, seed=1).take(number, NOW_MS)
    assert len(sent) == number
    kinds = Counter(request.kind for request in sent)
    for kind, share in PER_THOUSAND.items():
        assert kinds[kind] == pytest.approx(share * number / 1000, rel=0.3)
    values: set[bytes] = set()
    bodies: dict[str, bytes] = {}
    for request in sent:
        decoded = decode_request(request.value, MAX_REQUEST_BYTES)
        assert isinstance(decoded, Unreadable) == (request.kind == "malformed"), request
        assert (request.value in values) == (request.kind == "duplicate"), request
        if isinstance(decoded, Decoded):
            body = bodies.setdefault(decoded.request.request_id, request.value)
            assert (body != request.value) == (request.kind == "conflict"), request
        values.add(request.value)


def test_the_same_seed_gives_the_same_requests() -> None:
    payments = read_sample(SAMPLE, 1_000, PARTITIONS).payments
    assert Traffic(payments, 1_000, seed=7).take(1_000, NOW_MS) == Traffic(payments, 1_000, seed=7).take(1_000, NOW_MS)
    assert Traffic(payments, 1_000, seed=7).take(1_000, NOW_MS) != Traffic(payments, 1_000, seed=8).take(1_000, NOW_MS)


def test_every_breakage_breaks_a_request() -> None:
    payments = read_sample(SAMPLE, 1, PARTITIONS).payments
    (good,) = Traffic(payments, 1, seed=1).take(1, NOW_MS)
    for breakage in BREAKAGES:
        assert isinstance(decode_request(good.value.replace(*breakage, 1), MAX_REQUEST_BYTES), Unreadable), breakage


def test_a_sample_that_is_shorter_than_wanted_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv.gz"
    path.write_bytes(
        gzip.compress(b"ts_s,account,merchant,category,amount_minor,fraud\n0,1,2,3,450,0\n9,4,5,6,700,1\n")
    )
    amounts = [payment.amount_minor for payment in read_sample(path, 5, PARTITIONS).payments]
    assert amounts == [450, 700, 450, 700, 450]


def test_percentiles_are_nearest_rank() -> None:
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile([7], 0.99) == 7
    assert percentile([], 0.5) is None
