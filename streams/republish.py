"""What a new owner publishes again: the outcomes in blocks whose publication may not have been acknowledged."""

from __future__ import annotations

from collections.abc import Callable

from schemas.events import Answer, span
from schemas.outcomes import transaction_id
from schemas.records import RawRecord, header_values, unframe
from streams.batch import outcome_record, return_address
from streams.halts import Halt
from streams.journal.reading import ValidBlock
from streams.journal.writer import Witness
from streams.kafka import Outgoing, Record
from streams.replies import Reply
from streams.topics import Topics

_NOT_KEPT = RawRecord(None, (), None)
"""A record above 64 KiB is in the journal by hash only: published again it has no key and correlation."""


def publications(block: ValidBlock, topics: Topics, partition: int) -> tuple[list[Outgoing], list[Reply]]:
    """The outcomes and replies of *block*, byte for byte as its own writer publishes them."""
    outcomes: list[Outgoing] = []
    replies: list[Reply] = []
    for seq, event in enumerate(block.events, start=block.headers.seq):
        if not isinstance(event, Answer):
            continue
        body, framed = span(block.raw, event.outcome), span(block.raw, event.record)
        if body is None:
            raise Halt(f"{transaction_id(partition, seq)} has no outcome", topic=topics.journal, offset=block.offset)
        request = unframe(framed) if framed is not None else _NOT_KEPT
        reply_to, correlation = return_address(request.headers)
        outcome = outcome_record(event, seq, body, request.key, correlation, topics.requests, partition)
        outcomes.append(outcome)
        if reply_to is not None:
            replies.append(Reply(reply_to, outcome))
    return outcomes, replies


def outcome_witness(tail: list[Record]) -> Witness | None:
    """The published outcome with the highest seq: the journal must hold exactly its bytes there."""
    latest: tuple[int, Record] | None = None
    for record in tail:
        text = next(header_values(record.headers, "seq"), b"")
        if text.isdigit() and (latest is None or int(text) > latest[0]):
            latest = int(text), record
    if latest is None:
        return None
    seq, record = latest
    return Witness(f"{record.topic}[{record.partition}] offset {record.offset}", seq, _holds(seq, record.value))


def _holds(seq: int, body: bytes | None) -> Callable[[ValidBlock], bool]:
    def agrees(block: ValidBlock) -> bool:
        event = block.events[seq - block.headers.seq]
        return isinstance(event, Answer) and span(block.raw, event.outcome) == body

    return agrees
