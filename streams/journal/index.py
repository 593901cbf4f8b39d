"""``seq -> offset``: a sparse index of what was read, and a binary search in the log for the rest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from schemas.events import decode_events
from streams.journal.errors import JournalLoss
from streams.journal.framing import BlockHeaders, FramingError, NewerFormat, decode_headers, next_chain, open_block
from streams.journal.log import Log, LogRecord, read_range
from streams.journal.reading import Position, ValidBlock

EVERY_BLOCKS: Final = 64
MAX_ENTRIES: Final = 65_536
"""About 1.5 MiB; beyond, every other entry is dropped and the distance doubles."""


class SeqIndex:
    """Offsets of some valid blocks, noted while they are read or appended. Advice: without it a lookup takes longer."""

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._offsets: list[int] = []
        self._every = EVERY_BLOCKS
        self._since = 0

    def note(self, first_seq: int, offset: int) -> None:
        """A valid block of which *first_seq* is the first event lies at *offset*; called in order, for every block."""
        if self._since == 0:
            self._seqs.append(first_seq)
            self._offsets.append(offset)
            if len(self._seqs) > MAX_ENTRIES:
                self._seqs, self._offsets, self._every = self._seqs[::2], self._offsets[::2], self._every * 2
        self._since = (self._since + 1) % self._every

    def bounds(self, seq: int, end: int) -> tuple[int, int]:
        """``(low, high)``: the block with *seq* has low <= offset < high, if it lies below *end*."""
        n = bisect_right(self._seqs, seq)
        return self._offsets[n - 1] if n else 1, min(end, self._offsets[n]) if n < len(self._offsets) else end


async def find_block(log: Log, seq: int, position: Position, index: SeqIndex | None = None) -> ValidBlock:
    """The block that holds *seq*, for 1 <= seq <= position.seq; *position* is of a reader of this journal.

    What a probe finds may be a stale block or a further copy. It counts only with its proof: a later block that
    continues its chain, or the chain of *position*. A stale block with other content than the valid one has no such
    successor, for its writer appended nothing more; of copies with the same content any may be returned. So no lease
    needs to be known. Late copies of several blocks in a row could mislead the search; then the log is read from its
    start.

    Raises: JournalLoss if there is none; LogUnavailable.
    """
    if not 1 <= seq <= position.seq:
        raise ValueError(f"{log.where}: seq {seq} is not in 1..{position.seq}")
    low, high = (index or SeqIndex()).bounds(seq, position.next_offset)
    probe = low  # with an index the block is near its lower bound: look there first
    while low < high:
        block = await _first_proved(log, probe, position, _any_block)
        if block is None or block.headers.seq > seq:
            high = probe  # no valid block lies between the probe and the one found
        elif block.headers.last_seq < seq:
            low = block.offset + 1
        else:
            return block
        probe = (low + high) // 2
    block = await _first_proved(log, 1, position, lambda headers: headers.seq <= seq <= headers.last_seq)
    if block is None:
        raise JournalLoss(log.where, None, f"the block with seq {seq}", "no block that the journal goes on from")
    return block


async def _first_proved(
    log: Log, start: int, position: Position, wanted: Callable[[BlockHeaders], bool]
) -> ValidBlock | None:
    """The first block at or above *start* that is wanted and proved."""
    unproved: list[tuple[LogRecord, BlockHeaders]] = []  # few: stale runs are short
    async for records in read_range(log, start, position.next_offset):
        for record in records:
            headers = _block_headers(record)
            if headers is None or record.value is None:
                continue
            for earlier, its in unproved:
                if its.last_seq + 1 == headers.seq and headers.chain == _chain(its.chain, headers, record.value):
                    return _open(log, earlier, its)
            if wanted(headers):
                if (headers.last_seq, headers.chain) == (position.seq, position.chain):
                    return _open(log, record, headers)
                unproved.append((record, headers))
    return None


def _any_block(_: BlockHeaders) -> bool:
    return True


def _chain(previous: bytes, headers: BlockHeaders, value: bytes) -> bytes:
    return next_chain(previous, headers.format, headers.seq, headers.count, value)


def _block_headers(record: LogRecord) -> BlockHeaders | None:
    try:
        headers = decode_headers(record.headers)
    except (FramingError, NewerFormat):  # the reader that passed here has judged it
        return None
    return headers if isinstance(headers, BlockHeaders) else None


def _open(log: Log, record: LogRecord, headers: BlockHeaders) -> ValidBlock:
    try:
        body = open_block(record.value)
        events = decode_events(body.events_json)
    except ValueError as error:
        raise JournalLoss(log.where, record.offset, "the block that was read there", str(error)) from error
    return ValidBlock(record.offset, headers, events, memoryview(body.raw), record.value or b"")
