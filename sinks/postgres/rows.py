"""From journal events to rows: what a batch of one partition adds to the ledger.

Pure; total over what the engine can accept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, assert_never

import orjson

from schemas.bounds import SYSTEM_PREFIX
from schemas.events import AccountTerms, Answer, ConfigPickup, Event, Skip, Span, span
from streams.journal.reading import ValidBlock

KEY_BITS: Final = 32
"""account_key = partition << 32 | number of the account in its partition."""

Row = tuple[object, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(kw_only=True, slots=True)
class Batch:
    """The rows of some consecutive blocks, in the column order of ``COLUMNS``.

    Mutable while it is filled, then written whole.
    *terms* and *deltas* are netted: one per account, however often the batch touches it.
    """

    events: int = 0
    entries: list[Row] = field(default_factory=list)
    postings: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    config_pickups: list[Row] = field(default_factory=list)
    skips: list[Row] = field(default_factory=list)
    new_accounts: dict[int, AccountTerms] = field(default_factory=dict)
    terms: dict[int, AccountTerms] = field(default_factory=dict)
    deltas: dict[int, list[int]] = field(default_factory=dict)
    """account_key -> [debits, credits, seq of the last event that touched the account]."""

    @property
    def rows(self) -> int:
        """Rows that the batch inserts or updates, the position row aside."""
        inserted = self.entries, self.postings, self.decisions, self.config_pickups, self.skips, self.new_accounts
        return sum(map(len, inserted)) + len(self.terms) + len(self.deltas)


COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "entries": ("seq", "at", "partition", "leg_count", "type", "request_id"),
    "posting_rows": ("seq", "account_key", "amount_minor", "partition", "leg", "is_debit", "currency"),
    "decision_rows": (
        "seq",
        "at",
        "partition",
        "binding",
        "replayed",
        "request_id",
        "account_id",
        "type",
        "status",
        "reason",
        "outcome",
        "explanation",
    ),
    "config_pickups": ("seq", "at", "partition", "config_offset", "sha256", "version", "verdict", "reason"),
    "skips": ("seq", "at", "partition", "input_offset", "reason"),
    "account_terms": (
        "account_key",
        "partition",
        "account_id",
        "currency",
        "normal_side",
        "status",
        "tier",
        "floor_minor",
        "ceiling_minor",
        "attributes",
    ),
    "account_counters": ("account_key", "debits_posted", "credits_posted", "held", "seq"),
}


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of *batches* of different partitions as one batch."""
    if len(batches) == 1:
        return batches[0]
    whole = Batch()
    for batch in batches:
        whole.events += batch.events
        whole.entries += batch.entries
        whole.postings += batch.postings
        whole.decisions += batch.decisions
        whole.config_pickups += batch.config_pickups
        whole.skips += batch.skips
        whole.new_accounts |= batch.new_accounts
        whole.terms |= batch.terms
        whole.deltas |= batch.deltas
    return whole


def mentioned(events: Iterable[Event]) -> dict[str, None]:
    """The accounts that *events* touch, in the order of first mention (terms before legs)."""
    found: dict[str, None] = {}
    for event in events:
        if isinstance(event, Answer):
            if event.account is not None:
                found[event.account.account_id] = None
            for leg in event.legs:
                found[leg[0]] = None
    return found


def instant(milliseconds: int) -> datetime:
    """The instant *milliseconds* after 1970; exact."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


class _Target(NamedTuple):
    """What the rows of a block's events are made of besides the event."""

    batch: Batch
    partition: int
    raw: memoryview
    keys: Mapping[str, int]


def add_block(batch: Batch, partition: int, block: ValidBlock, keys: Mapping[str, int]) -> None:
    """Add the rows of *block*; *keys* holds every account that it mentions."""
    target, seq = _Target(batch, partition, block.raw, keys), block.headers.seq
    at_ms, at = -1, _EPOCH
    for event in block.events:
        if event.at != at_ms:
            at_ms, at = event.at, instant(event.at)
        match event:
            case Answer():
                _add_answer(target, seq, at, event)
            case Skip():
                batch.skips.append((seq, at, partition, event.offset, event.reason))
            case ConfigPickup():
                sha256 = bytes.fromhex(event.sha256)
                batch.config_pickups.append(
                    (seq, at, partition, event.offset, sha256, event.version, event.verdict, event.reason)
                )
            case _:
                assert_never(event)
        seq += 1
    batch.events += len(block.events)


def _add_answer(target: _Target, seq: int, at: datetime, answer: Answer) -> None:
    batch, partition, raw, keys = target
    request_id, kind = answer.request_id, answer.type
    batch.decisions.append(
        (
            seq,
            at,
            partition,
            answer.binding,
            answer.replayed,
            request_id,
            answer.account_id,
            kind,
            answer.status,
            answer.reason,
            _bytes(raw, answer.outcome),
            without_nul(_bytes(raw, answer.explanation)),
        )
    )
    if answer.account is not None:
        key = keys[answer.account.account_id]
        batch.terms[key] = answer.account
        _delta(batch, key)[2] = seq
    if answer.legs:
        batch.entries.append((seq, at, partition, len(answer.legs), kind, request_id))
        for number, (account, side, amount_minor, currency) in enumerate(answer.legs, 1):
            key, is_debit = keys[account], side == "debit"
            batch.postings.append((seq, key, amount_minor, partition, number, is_debit, currency))
            delta = _delta(batch, key)
            delta[0 if is_debit else 1] += amount_minor
            delta[2] = seq


def _delta(batch: Batch, key: int) -> list[int]:
    delta = batch.deltas.get(key)
    if delta is None:
        delta = batch.deltas[key] = [0, 0, 0]
    return delta


def _bytes(raw: memoryview, where: Span) -> bytes:
    found = span(raw, where)
    assert found is not None, "outcomes and explanations are always kept byte for byte"
    return found


def settle_new(batch: Batch, new: Mapping[str, int]) -> None:
    """Move the terms of the accounts that the ledger does not have yet to *new_accounts*; the batch is complete.

    Raises KeyError for a customer's account that no event has opened.
    """
    for account_id, key in new.items():
        system = account_id.startswith(SYSTEM_PREFIX)
        batch.new_accounts[key] = _system_terms(account_id) if system else batch.terms.pop(key)


def _system_terms(account_id: str) -> AccountTerms:
    """System accounts are opened by their first posting; their name ends with the currency."""
    return AccountTerms(
        account_id=account_id,
        currency=account_id.rpartition(":")[2],
        normal_side="credit",
        status="open",
        tier="",
        floor_minor=0,
        attributes={},
    )


def terms_row(key: int, terms: AccountTerms) -> Row:
    """A row of ``account_terms``; a system account has neither tier nor floor."""
    system = terms.account_id.startswith(SYSTEM_PREFIX)
    return (
        key,
        key >> KEY_BITS,
        terms.account_id,
        terms.currency,
        terms.normal_side,
        terms.status,
        None if system else terms.tier,
        None if system else terms.floor_minor,
        terms.ceiling_minor,
        orjson.dumps(terms.attributes),
    )


def without_nul(text: bytes) -> bytes:
    r"""*text* with each escaped NUL (``\u0000``) replaced by U+FFFD: jsonb cannot hold it, json and Kafka can.

    No request with a NUL is decided, but an explanation might quote one that was refused. The sink stores it all the
    same.
    """
    return _NUL.sub(rb"\1\\ufffd", text) if rb"\u0000" in text else text
