"""What clients were told: the records of ``outcomes`` and of reply topics, against the journal (I4, I12, I16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from ledgerline.verify.report import Invariant, Place, Report
from ledgerline.verify.walk import Walk, digest
from streams.kafka import Record


class Published:
    """One partition of ``outcomes``, read in order. Mutable, one owner.

    First occurrences are in the order of ``seq`` without a gap; later ones repeat the same bytes. *start* is the first
    offset that the topic retains: if it is not 0, the order is checked from the first record on.
    """

    def __init__(self, report: Report, walk: Walk, start: int) -> None:
        self._report = report
        self._walk = walk
        self._bearing = [seq for seq, body in enumerate(walk.outcomes, 1) if body is not None]
        self._next = 0 if start == 0 else None  # index in _bearing of the next first occurrence; None: not known yet
        self._index = {seq: index for index, seq in enumerate(self._bearing)}

    def read(self, records: Sequence[Record]) -> None:
        """Take the next records."""
        self._report.check(Invariant.I4, len(records))
        self._report.check(Invariant.I16, len(records))
        for record in records:
            place = Place(self._walk.partition, None, record.offset, "outcomes")
            body = _object(record.value)
            seq = None if body is None else body.get("seq")
            if type(seq) is not int or body is None or body.get("partition") != self._walk.partition:
                self._report.fail(Invariant.I16, place, "record", "an outcome of this partition", record.value)
                continue
            place = place._replace(seq=seq)
            if compare(self._report, self._walk, place, record.value or b""):
                self._order(place, seq)
                self._headers(place, record, body)

    def finish(self) -> None:
        """What blocks claim as published is there."""
        claimed = self._walk.published_through
        if self._next is not None and self._next < len(self._bearing) and self._bearing[self._next] <= claimed:
            place = Place(self._walk.partition, self._bearing[self._next], None, "outcomes")
            self._report.fail(
                Invariant.I16, place, "publication", f"every outcome up to seq {claimed}", "none of this seq"
            )

    def _order(self, place: Place, seq: int) -> None:
        index = self._index[seq]
        if self._next is None:
            self._next = index
        if index > self._next:
            self._report.fail(Invariant.I4, place, "first occurrence in order", f"seq {self._bearing[self._next]}", seq)
        self._next = max(self._next, index + 1)

    def _headers(self, place: Place, record: Record, body: Mapping[str, Any]) -> None:
        """Headers repeat what the body and the event say."""
        names = dict(record.headers)
        expected = {"seq": b"%d" % body["seq"]}
        if body.get("request_id") is not None:
            expected["request_id"] = str(body["request_id"]).encode()
        found = {name: names.get(name) for name in expected}
        self._report.compare(Invariant.I16, place, "headers of the outcome", expected, found)


class Replies:
    """Reply topics. They are not ours: records that are no outcomes of this ledger are left alone."""

    def __init__(self, report: Report, walks: Mapping[int, Walk]) -> None:
        """*walks* go to journal ends that were taken after those of the topics."""
        self._report = report
        self._walks = walks

    def read(self, records: Sequence[Record]) -> None:
        """Take the next records."""
        for record in records:
            body = _object(record.value)
            if body is None or not body.keys() >= _FIELDS:
                continue
            partition, seq = body["partition"], body["seq"]
            walk = self._walks.get(partition) if type(partition) is int else None
            if walk is not None and type(seq) is int:
                self._report.check(Invariant.I16)
                compare(self._report, walk, Place(partition, seq, record.offset, record.topic), record.value or b"")


_FIELDS: Final = frozenset({"partition", "seq", "transaction", "status", "binding", "replayed"})


def compare(report: Report, walk: Walk, place: Place, body: bytes) -> bool:
    """Return whether the event *place.seq* has an outcome at all; fail unless it is *body*, byte for byte."""
    found = digest(body)
    seq = place.seq or 0
    expected = walk.outcomes[seq - 1] if 0 < seq <= len(walk.outcomes) else None
    if expected == found:
        return True
    stale = walk.stale.get(found)
    if stale is not None:
        report.check(Invariant.I12)
        report.fail(
            Invariant.I12, place, "published outcome", "that of a valid block", f"that of the one at offset {stale}"
        )
    if walk.halted and seq > len(walk.outcomes):
        return False  # the journal could not be read so far, which is a failure of its own
    if expected is None:
        report.fail(Invariant.I16, place, "published outcome", "an event with an outcome in the journal", body)
        return False
    report.fail(Invariant.I4, place, "content of (partition, seq)", f"sha256 {expected.hex()}…", body)
    report.fail(Invariant.I16, place, "published outcome", f"sha256 {expected.hex()}… as in the journal", body)
    return True


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        tree = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return tree if type(tree) is dict else None
