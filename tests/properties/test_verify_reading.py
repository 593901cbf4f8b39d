"""The checker's plain reading rule says of every log what the reading rule of ``streams.journal`` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from ledgerline.verify.reading import Broken, Meaning, Rule, framed, split, unframed
from schemas.events import decode_events
from schemas.records import RawRecord, frame, unframe
from streams.journal.errors import Corruption, JournalHalt, JournalLoss, TooOld
from streams.journal.log import LogRecord
from streams.journal.reading import Duplicate, Reader, Stale, ValidBlock, WonLease
from tests.streams.journal.building import WHERE, Message, block, genesis, header, lease, record

letters = st.sampled_from("abc")
epochs = st.integers(1, 4)


class World:
    """A log that grows by records of any writers; the reader that was right so far tells what would be valid next."""

    def __init__(self) -> None:
        self.reader = Reader(WHERE, record(0, genesis()))
        self.chains = {0: self.reader.position.chain}
        self.sent: list[Message] = []


def next_message(draw: st.DrawFn, world: World, number: int) -> Message:
    """Most often the valid next record; sometimes another writer's, a repeated one, or one with a header changed."""
    position = world.reader.position
    current = chr(position.token[0]) if position.epoch else "a"
    kind = draw(
        st.sampled_from(
            [*["block"] * 6, *["lease"] * 3, "again", "again", "genesis", "any", "any", "old", "old", "newer"]
        )
    )
    message: Message
    match kind:
        case "lease":
            message = lease(draw(epochs), draw(letters))
        case "again" if world.sent:
            message = draw(st.sampled_from(world.sent))
        case "genesis":
            message = genesis()
        case "old":
            seq = draw(st.sampled_from(sorted(world.chains)))
            message = block(position.epoch or 1, current, seq + 1, world.chains[seq], number)
        case "newer":
            message = header(draw(st.sampled_from([*world.sent, genesis()])), format=b"2")
        case "any":
            seq = draw(st.sampled_from(sorted(world.chains)))
            previous = world.chains[seq] if draw(st.booleans()) else bytes(32)
            message = block(draw(epochs), draw(letters), seq + 1, previous, number)
        case _:
            numbers = range(number, number + draw(st.integers(1, 3)))
            message = block(position.epoch or 1, current, position.seq + 1, position.chain, *numbers, raw=b"raw")
    if draw(st.integers(0, 9)) == 0:
        message = spoilt(draw, message)
    return message


def spoilt(draw: st.DrawFn, message: Message) -> Message:
    """*message* with one header or the value changed into something that is almost right."""
    headers, value = message
    name = draw(st.sampled_from([name for name, _ in headers]))
    other = draw(
        st.sampled_from(
            [b"0", b"1", b"2", b"01", b"+1", b" 1", b"", b"-1", b"1" * 20, b"ab" * 16, b"AB" * 16, b"0" * 64, None]
        )
    )
    match draw(st.sampled_from(["header", "header", "order", "less", "value"])):
        case "header":
            return header(message, **{name: other})
        case "order":
            return headers[::-1], value
        case "less":
            return headers[:-1], value
        case _:
            position = draw(st.integers(0, len(value) - 1))
            return headers, value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]


def theirs(reader: Reader, real: LogRecord) -> str:
    try:
        verdict = reader.read(real)
    except TooOld:
        return "too old"
    except JournalLoss:
        return "journal loss"
    except Corruption:
        return "corruption"
    match verdict:
        case WonLease():
            return "lease"
        case ValidBlock():
            return "block"
        case Stale():
            return "stale"
        case Duplicate():
            return "duplicate"


def ours(rule: Rule, real: LogRecord) -> str:
    try:
        meaning, says = rule.read(real.key, real.headers, real.value)
        if meaning is Meaning.BLOCK:
            events, _ = split(real.value)
            if len(decode_events(events)) != says.count:
                return "corruption"
    except Broken as broken:
        return broken.kind
    except ValueError:
        return "corruption"
    return meaning.value


@st.composite
def logs(draw: st.DrawFn) -> list[LogRecord]:
    world, found = World(), [record(0, genesis())]
    for number in range(draw(st.integers(1, 14))):
        message = next_message(draw, world, 10 * number + 1)
        found.append(record(found[-1].offset + draw(st.sampled_from([1, 1, 1, 3])), message))
        world.sent.append(message)
        try:
            world.reader.read(found[-1])
        except JournalHalt:
            break
        world.chains[world.reader.position.seq] = world.reader.position.chain
    return found


@settings(max_examples=500)
@given(logs())
def test_both_rules_give_the_same_verdicts_and_positions(log: list[LogRecord]) -> None:
    rule, reader = Rule(), Reader(WHERE, log[0])
    assert rule.read(log[0].key, log[0].headers, log[0].value)[0] is Meaning.GENESIS
    for real in log[1:]:
        expected = theirs(reader, real)
        assert ours(rule, real) == expected
        if expected in {"corruption", "journal loss", "too old"}:
            return
        position = reader.position
        assert (rule.epoch, rule.token, rule.lease_seq) == (position.epoch, position.token, position.lease_seq)
        assert (rule.seq, rule.chain) == (position.seq, position.chain)


def test_the_generated_logs_reach_every_verdict() -> None:
    seen: set[str] = set()

    @settings(max_examples=500, database=None, derandomize=True)
    @given(logs())
    def collect(log: list[LogRecord]) -> None:
        reader = Reader(WHERE, log[0])
        for real in log[1:]:
            seen.add(theirs(reader, real))
            if seen & {"corruption", "journal loss", "too old"} and reader.position.next_offset <= real.offset:
                return

    collect()
    assert seen == {"lease", "block", "stale", "duplicate", "corruption", "journal loss", "too old"}


parts = st.none() | st.binary(max_size=40)
raw_records = st.builds(
    RawRecord,
    parts,
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=8), parts), max_size=4).map(tuple),
    parts,
)


@given(raw_records)
def test_both_framings_give_the_same_bytes_and_read_them_back(raw: RawRecord) -> None:
    data = framed(raw.key, raw.headers, raw.value)
    assert data == frame(raw)
    assert unframed(data) == (raw.key, list(raw.headers), raw.value)
    assert unframe(data) == raw


@given(raw_records, st.data())
def test_both_framings_refuse_the_same_bytes(raw: RawRecord, data: st.DataObject) -> None:
    whole = frame(raw)
    cut = whole[: data.draw(st.integers(0, len(whole)))] + data.draw(st.sampled_from([b"", b"\0", b"\xff\xff\xff\xff"]))
    assert read_by(unframe, cut) == read_by(unframed, cut)


Parsed = tuple[bytes | None, Iterable[tuple[str, bytes | None]], bytes | None]


def read_by(read: Callable[[bytes], Parsed], data: bytes) -> Parsed | None:
    try:
        key, headers, value = read(data)
    except ValueError:
        return None
    return key, list(headers), value
