"""A batch becomes one block."""

from __future__ import annotations

import orjson

from engine.book import Book
from engine.digest import state_hash
from engine.evolve import evolve
from schemas.bounds import MAX_BLOCK_BYTES, MAX_BLOCK_EVENTS
from schemas.events import Answer, decode_events, span
from schemas.records import RawRecord, frame, input_hash
from streams.batch import Block, Decider
from streams.inputs import Input
from streams.journal.framing import encode_block, open_block
from tests.streams.world import GENESIS, START_MS, TOPICS, World


async def no_original(seq: int) -> bytes:
    raise AssertionError(f"nobody asked for {seq}")


async def decided(world: World) -> tuple[Block, int]:
    decider = Decider(Book.from_genesis(GENESIS), TOPICS, world.config, no_original)
    return await decider.decide([Input("requests", record) for record in world.requests])


async def test_events_point_to_the_bytes_of_their_record_outcome_and_explanation() -> None:
    world = World()
    await world.publish_config()
    world.fund("alice", "bob")
    block, count = await decided(world)
    assert (count, len(block.events)) == (4, 5)
    opened = open_block(encode_block(block.body(), len(block.events)))
    events = decode_events(opened.events_json)
    answers = [event for event in events if isinstance(event, Answer)]
    for event, record, published in zip(answers, world.requests, block.outcomes, strict=True):
        framed = frame(RawRecord(record.key, record.headers, record.value))
        assert span(opened.raw, event.record) == framed
        assert event.sha256 == input_hash(framed)
        assert span(opened.raw, event.outcome) == published.value
        orjson.loads(span(opened.raw, event.explanation) or b"")
    assert sum(length for e in answers for _, length in (e.record, e.outcome, e.explanation)) == len(opened.raw)


async def test_a_block_moves_the_book_of_its_decider_as_it_moves_the_book_that_folds_it() -> None:
    world = World()
    await world.publish_config()
    world.fund("alice", "bob")
    for n in range(3):
        world.send("alice", "transfer", amount_minor=100 + n // 2, currency="EUR", payee="bob")
    world.requests.append(world.requests[-1]._replace(offset=7))
    book, folded = Book.from_genesis(GENESIS), Book.from_genesis(GENESIS)
    decider = Decider(book, TOPICS, world.config, no_original)
    block, _ = await decider.decide([Input("requests", record) for record in world.requests])
    for event in decode_events(block.body().events_json):
        evolve(folded, event)
    assert state_hash(folded) == state_hash(book)


async def test_a_replay_within_the_block_needs_nobody() -> None:
    world = World()
    await world.publish_config()
    world.fund("alice")
    world.requests.append(world.requests[-1]._replace(offset=2))
    block, _ = await decided(world)
    last = orjson.loads(block.outcomes[-1].value or b"")
    assert (last["replayed"], last["seq"], last["transaction"]) == (True, 4, "0-3")


async def test_a_block_never_exceeds_the_bounds_of_the_journal() -> None:
    world = World()
    await world.publish_config()
    for n in range(2_100):
        world.send_raw(b"k", b"x" * (60_000 if n < 80 else 1))
    total, requests, most = 0, list(world.requests), 0
    decider = Decider(Book.from_genesis(GENESIS), TOPICS, world.config, no_original)
    while requests:
        block, count = await decider.decide([Input("requests", record) for record in requests])
        assert 1 <= len(block.events) <= MAX_BLOCK_EVENTS
        most = max(most, len(encode_block(block.body(), len(block.events))))
        assert most <= MAX_BLOCK_BYTES
        total, requests = total + count, requests[count:]
    assert total == 2_100
    assert most > MAX_BLOCK_BYTES // 2


async def test_the_largest_account_terms_fit() -> None:
    world = World()
    await world.publish_config()
    attributes = {f"{n:02}" + "k" * 60: "\u20ac" * 250 for n in range(16)}
    for n in range(300):
        world.send(f"a-{n}", "open_account", currency="EUR", attributes=attributes)
    requests = list(world.requests)
    decider = Decider(Book.from_genesis(GENESIS), TOPICS, world.config, no_original)
    while requests:
        block, count = await decider.decide([Input("requests", record) for record in requests])
        encode_block(block.body(), len(block.events))
        assert {decided.status for decided in block.decided} == {"accepted"}
        assert block.decided.total() == count
        requests = requests[count:]


async def test_long_events_of_short_requests_do_not_burst_a_block() -> None:
    """Legs and terms take several times what the request took: a transfer's eight fees, an account's attributes."""
    world = World()
    await world.publish_config()
    payer, payee, attributes = "a" * 64, "b" * 64, {f"{n:02}" + "\u20ac" * 60: "\u20ac" * 250 for n in range(16)}
    world.send(payer, "open_account", currency="EUR", tier="unlimited", attributes=attributes)
    world.send(payee, "open_account", currency="EUR", tier="unlimited")
    world.send(payer, "deposit", currency="EUR", amount_minor=10**15, rail="r")
    fees = [{"code": "c", "amount_minor": 10**8}] * 8
    for n in range(1_400):
        world.send(payer, "transfer", currency="EUR", amount_minor=10**9 + n, payee=payee, fees=fees)
    for n in range(400):
        world.send(payer, "update_account", floor_minor=-n)
    requests, blocks = list(world.requests), 0
    decider = Decider(Book.from_genesis(GENESIS), TOPICS, world.config, no_original)
    while requests:
        block, count = await decider.decide([Input("requests", record) for record in requests])
        value = encode_block(block.body(), len(block.events))
        assert decode_events(open_block(value).events_json) == block.events
        requests, blocks = requests[count:], blocks + 1
    assert 3 <= blocks <= 6


async def test_the_time_of_an_event_never_goes_back() -> None:
    world = World()
    await world.publish_config()
    for at in (START_MS + 9, START_MS + 3, START_MS - 50_000):
        world.send_raw(b"k", b"{", at=at)
    block, _ = await decided(world)
    assert [event.at for event in block.events] == [START_MS + 9] * 4


async def test_metric_labels_are_bounded_whatever_a_request_calls_its_type() -> None:
    world = World()
    await world.publish_config()
    for n in range(5):
        world.send("alice", f"invented-{n}")
    block, _ = await decided(world)
    assert {decided.type for decided in block.decided} == {"other"}
