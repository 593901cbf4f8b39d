"""The reading rule (design §3): what each journal record means to a reader at a position. No I/O; one for all readers.

The property test ``tests/properties/test_journal_reading.py`` drives it together with the model-checked specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Self, assert_never

from schemas.events import FORMAT, Event, Genesis, decode_events, decode_genesis
from streams.journal.errors import Corruption, JournalLoss, TooOld, WrongLedger
from streams.journal.framing import (
    TOKEN_BYTES,
    BlockHeaders,
    FramingError,
    GenesisHeaders,
    LeaseHeaders,
    NewerFormat,
    RecordHeaders,
    decode_headers,
    first_chain,
    next_chain,
    open_block,
    record_hash,
)
from streams.journal.log import LogRecord

NO_TOKEN: Final = bytes(TOKEN_BYTES)
"""The token of a position before the first lease."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a reader is, and what it must remember to go on: stored whole, in one transaction with what was derived.

    Of most positions nobody ever asks for ``last``, so it is computed when somebody does (``behind``): another hash
    over every block would cost 2.5 µs per KiB.
    """

    next_offset: int
    """One above the offset of the last record that was read, which is therefore at ``next_offset - 1``."""
    epoch: int
    """Of the lease in force; 0 before the first."""
    token: bytes
    lease_seq: int
    """The seq at which the lease in force began."""
    seq: int
    """Of the last valid event; 0 before the first."""
    chain: bytes
    at: int
    """Of the last valid event (the genesis' before the first), in milliseconds."""
    last: bytes
    """SHA-256 of the record at ``next_offset - 1``, as framed in a block."""

    def behind(self, record: LogRecord, *, seq: int, chain: bytes, at: int) -> Position:
        """The position behind *record*, under the same lease; the record is kept until ``last`` is asked for."""
        moved = object.__new__(Position)
        fields = moved.__dict__
        fields.update(self.__dict__, next_offset=record.offset + 1, seq=seq, chain=chain, at=at, _record=record)
        fields.pop("last", None)
        return moved

    if not TYPE_CHECKING:  # for a type checker every attribute would exist

        def __getattr__(self, name: str) -> bytes:
            """Called where an attribute is missing: only ``last`` may be."""
            if name != "last" or "_record" not in self.__dict__:
                raise AttributeError(name)
            record = self.__dict__.pop("_record")
            last = self.__dict__["last"] = record_hash(record.key, record.headers, record.value)
            return last

    def to_plain(self) -> dict[str, int | str]:
        """Integers, and bytes in lower-case hex: for JSON."""
        return {name: v.hex() if isinstance(v, bytes) else v for name, v in asdict(self).items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, int | str]) -> Self:
        """Inverse of ``to_plain``; raises ValueError, TypeError or KeyError."""
        whole = {name: int(plain[name]) for name in ("next_offset", "epoch", "lease_seq", "seq", "at")}
        data = {name: bytes.fromhex(str(plain[name])) for name in ("token", "chain", "last")}
        if len(plain) != len(whole) + len(data):
            raise ValueError(f"a position has {len(whole) + len(data)} fields, got {sorted(plain)}")
        return cls(
            next_offset=whole["next_offset"],
            epoch=whole["epoch"],
            token=data["token"],
            lease_seq=whole["lease_seq"],
            seq=whole["seq"],
            chain=data["chain"],
            at=whole["at"],
            last=data["last"],
        )


class WonLease(NamedTuple):
    """From here on (epoch, token) is in force."""

    offset: int
    epoch: int
    token: bytes
    owner: str  # for people only


class ValidBlock(NamedTuple):
    """The next events of the partition."""

    offset: int
    headers: BlockHeaders
    events: list[Event]
    raw: memoryview  # what the events point into
    value: bytes

    @property
    def last_seq(self) -> int:
        """Of the last event."""
        return self.headers.last_seq


class Stale(NamedTuple):
    """A late record of a writer that has lost the partition; it has no effect."""

    offset: int
    headers: LeaseHeaders | BlockHeaders


class Duplicate(NamedTuple):
    """A further copy of a record that counted already; it has no effect."""

    offset: int
    headers: GenesisHeaders | BlockHeaders


Verdict = WonLease | ValidBlock | Stale | Duplicate


class Reader:
    """Reads one partition's journal in order. Mutable, with one owner; knows nothing of what events mean.

    *position* is behind the last record that was given to ``read``. A halt leaves it where it was.
    *stale*, *duplicates* count skipped records since this reader began; *published_through* is the highest hint seen.
    """

    def __init__(self, where: str, genesis: LogRecord, position: Position | None = None) -> None:
        """Begin behind the genesis, or resume from *position*.

        *genesis* is the record at offset 0; a position that is not of this journal is noticed by ``confirm``.
        Raises: Corruption, TooOld if it is no genesis; JournalLoss if it is not at offset 0.
        """
        self.where = where
        if genesis.offset != 0:
            raise JournalLoss(
                where, genesis.offset, "the genesis at offset 0", f"a log that starts at {genesis.offset}"
            )
        headers = self._headers(genesis)
        if not isinstance(headers, GenesisHeaders) or genesis.value is None:
            raise Corruption(where, 0, "a genesis", f"{headers}")
        try:
            self.genesis: Genesis = decode_genesis(genesis.value)
        except ValueError as error:
            raise Corruption(where, 0, "a genesis", str(error)) from error
        if self.genesis.format > headers.format:
            raise TooOld(where, 0, headers.format, self.genesis.format)
        self._genesis_hash = record_hash(genesis.key, genesis.headers, genesis.value)
        self.position = position or Position(
            next_offset=1,
            epoch=0,
            token=NO_TOKEN,
            lease_seq=0,
            seq=0,
            chain=first_chain(genesis.value),
            at=self.genesis.at,
            last=self._genesis_hash,
        )
        self.stale = 0
        self.duplicates = 0
        self.published_through = 0

    def expect(self, *, ledger_id: str | None, partition: int) -> None:
        """Raises WrongLedger if the genesis is another ledger's (None: any) or another partition's."""
        found = self.genesis
        if found.partition != partition or ledger_id not in (None, found.ledger_id):
            expected = f"partition {partition} of {'a ledger' if ledger_id is None else f'ledger {ledger_id}'}"
            raise WrongLedger(self.where, expected, f"partition {found.partition} of ledger {found.ledger_id}")

    def confirm(self, record: LogRecord | None, log_end: int) -> None:
        """Compare *record*, found at ``position.next_offset - 1`` (None: there is none), with the one read there.

        Whenever reading starts, or starts again after an error, it begins so. Raises JournalLoss.
        """
        here = self.position.next_offset - 1
        if log_end <= here:
            raise JournalLoss(
                self.where, here, f"a log end above {here}, up to which I have read", f"log end {log_end}"
            )
        if record is None or record.offset != here:
            got = "none" if record is None else f"the next one at offset {record.offset}"
            raise JournalLoss(self.where, here, "the record that I have read there", got)
        found = record_hash(record.key, record.headers, record.value)
        if found != self.position.last:
            expected = f"the record with SHA-256 {self.position.last.hex()} that I have read there"
            raise JournalLoss(self.where, here, expected, f"one with {found.hex()}")

    def read(self, record: LogRecord) -> Verdict:
        """The verdict on the next record (offsets may have gaps); moves the position behind it.

        Raises: JournalLoss, Corruption, TooOld; the position stays.
        """
        assert record.offset >= self.position.next_offset, f"{self.where}: offset {record.offset} was read already"
        headers = self._headers(record)
        verdict: Verdict
        match headers:
            case BlockHeaders():
                verdict, behind = self._block(record, headers)
            case LeaseHeaders():
                verdict, behind = self._lease(record, headers)
            case GenesisHeaders():
                behind = self._past(record)
                if behind.last != self._genesis_hash:
                    raise Corruption(self.where, record.offset, "at most a copy of the genesis", "another genesis")
                self.duplicates += 1
                verdict = Duplicate(record.offset, headers)
            case _:
                assert_never(headers)
        self.position = behind
        return verdict

    def _past(self, record: LogRecord) -> Position:
        """The position behind *record*, which adds no events."""
        now = self.position
        return now.behind(record, seq=now.seq, chain=now.chain, at=now.at)

    def _headers(self, record: LogRecord) -> RecordHeaders:
        if record.key is not None:
            raise Corruption(self.where, record.offset, "a null key", f"{len(record.key)} bytes")
        try:
            return decode_headers(record.headers)
        except NewerFormat as newer:
            raise TooOld(self.where, record.offset, FORMAT, newer.number) from newer
        except FramingError as error:
            raise Corruption(self.where, record.offset, error.expected, error.got) from error

    def _lease(self, record: LogRecord, headers: LeaseHeaders) -> tuple[WonLease | Stale, Position]:
        behind = self._past(record)
        if headers.epoch <= self.position.epoch:  # the first of an epoch wins
            self.stale += 1
            return Stale(record.offset, headers), behind
        won = WonLease(record.offset, headers.epoch, headers.token, owner_of(record.value))
        return won, replace(behind, epoch=headers.epoch, token=headers.token, lease_seq=self.position.seq)

    def _block(self, record: LogRecord, headers: BlockHeaders) -> tuple[ValidBlock | Stale | Duplicate, Position]:
        now = self.position
        if headers.epoch < now.epoch:
            self.stale += 1
            return Stale(record.offset, headers), self._past(record)
        if headers.epoch > now.epoch:
            expected = f"a block of epoch {now.epoch} or lower (its lease is not in front of it)"
            raise Corruption(self.where, record.offset, expected, f"one of epoch {headers.epoch}")
        if headers.token != now.token:  # only the winner of an epoch writes blocks of it: its lease has been lost
            expected = f"a block of epoch {now.epoch} with token {now.token.hex()}"
            raise JournalLoss(self.where, record.offset, expected, f"token {headers.token.hex()}: its lease is lost")
        if headers.seq == now.seq + 1:
            return self._next(record, headers)
        if headers.seq > now.seq:
            raise Corruption(self.where, record.offset, f"seq {now.seq + 1}", f"seq {headers.seq}")
        if headers.seq <= now.lease_seq:  # the holder of this lease began above: its journal was shorter
            expected = f"a seq above {now.lease_seq}, where the lease of epoch {now.epoch} began"
            raise JournalLoss(self.where, record.offset, expected, f"seq {headers.seq}")
        self.duplicates += 1
        return Duplicate(record.offset, headers), self._past(record)

    def _next(self, record: LogRecord, headers: BlockHeaders) -> tuple[ValidBlock, Position]:
        now, value = self.position, record.value or b""
        chain = next_chain(now.chain, headers.format, headers.seq, headers.count, value)
        if chain != headers.chain:
            expected = f"the chain {chain.hex()} of seq {headers.seq} on this journal"
            raise Corruption(self.where, record.offset, expected, headers.chain.hex())
        try:
            body = open_block(record.value)
            events = decode_events(body.events_json)
        except FramingError as error:
            raise Corruption(self.where, record.offset, error.expected, error.got) from error
        except ValueError as error:
            raise Corruption(self.where, record.offset, "events", str(error)) from error
        if len(events) != headers.count:
            raise Corruption(self.where, record.offset, f"{headers.count} events", str(len(events)))
        self.published_through = max(self.published_through, headers.published_through)
        behind = now.behind(record, seq=headers.last_seq, chain=chain, at=events[-1].at)
        return ValidBlock(record.offset, headers, events, memoryview(body.raw), value), behind


def owner_of(lease_value: bytes | None) -> str:
    """The owner that a lease names, or its bytes as text: no rule reads it."""
    return (lease_value or b"").decode("utf-8", "replace")
