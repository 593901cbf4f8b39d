"""The inputs that are still retained, against the events that answer them (I8, I9)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ledgerline.verify.reading import framed
from ledgerline.verify.report import Invariant, Place, Report
from ledgerline.verify.walk import Answering, Walk
from streams.kafka import LOG_APPEND_TIME, Record


class Inputs:
    """One input partition, read in order up to the position of its journal. Mutable, one owner.

    *start* is the first offset that the topic retains: what lies below can no longer be compared.
    """

    def __init__(self, report: Report, walk: Walk, topic: str, start: int) -> None:
        self._report = report
        self._walk = walk
        self._topic = topic
        self._first = walk.first_input[topic]
        self._start = start
        self._waiting = walk.answered[topic]  # what was found is dropped: nobody else asks

    @property
    def end(self) -> int:
        """Every committed record below has to be answered: the position in the journal."""
        return self._walk.next_input.get(self._topic, 0)

    def read(self, records: Sequence[Record]) -> None:
        """Take the next committed records."""
        answered = 0
        for record in records:
            if not self._first <= record.offset < self.end:
                continue
            answered += 1
            answering = self._waiting.pop(record.offset, None)
            if answering is None:
                place = Place(self._walk.partition, None, record.offset, self._topic)
                self._report.fail(Invariant.I9, place, "answers to this record", "one", "none")
                continue
            found = hashlib.sha256(framed(record.key, record.headers, record.value)).hexdigest()
            if found != answering.sha256:
                self._fail(answering, f"SHA-256 of {self._topic} offset {record.offset}", found, answering.sha256)
            at = max(answering.previous_at, record.timestamp_ms)
            if at != answering.at and record.timestamp_type == LOG_APPEND_TIME:
                self._fail(answering, f"at, by the time of {self._topic} offset {record.offset}", at, answering.at)
        self._report.check(Invariant.I8, answered)
        self._report.check(Invariant.I9, answered)

    def finish(self) -> None:
        """Judge what named an input that is not there, though its offset is retained."""
        for offset, answering in self._waiting.items():
            if offset >= self._start:
                self._fail(answering, "input", f"a record at {self._topic} offset {offset}", "none")

    def _fail(self, answering: Answering, what: str, expected: object, found: object) -> None:
        place = Place(self._walk.partition, answering.seq, answering.offset)
        self._report.fail(Invariant.I8, place, what, expected, found)
