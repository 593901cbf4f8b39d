"""What the checker found: one line per invariant, each failure with where, expected and found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

MAX_KEPT: Final = 20
"""Failures kept per invariant and partition, for reading; all are counted."""
_SHOWN: Final = 400


class Invariant(StrEnum):
    """The numbers of docs/design.md §13. I13 and I17 concern links and signatures, which this version does not have."""

    I1 = "I1"
    I2 = "I2"
    I3 = "I3"
    I4 = "I4"
    I5 = "I5"
    I6 = "I6"
    I7 = "I7"
    I8 = "I8"
    I9 = "I9"
    I10 = "I10"
    I11 = "I11"
    I12 = "I12"
    I14 = "I14"
    I15 = "I15"
    I16 = "I16"


PROMISES: Final[dict[Invariant, str]] = {
    Invariant.I1: "every currency sums to zero at every prefix",
    Invariant.I2: "every entry balances, with two or more positive legs",
    Invariant.I3: "every event does what its request prescribes",
    Invariant.I4: "one content per (partition, seq), one decision per id",
    Invariant.I5: "balances equal the sums of their postings",
    Invariant.I6: "no available amount is negative at any prefix",
    Invariant.I7: "decided in input order, seq and chain unbroken",
    Invariant.I8: "every answer names a real input with its hash",
    Invariant.I9: "every input before the position is answered",
    Invariant.I10: "a rebuild from 0 gives the same state hash",
    Invariant.I11: "Postgres is the journal, row for row",
    Invariant.I12: "no stale event had an effect",
    Invariant.I14: "limits and remembered ids justify every decision",
    Invariant.I15: "lag now",
    Invariant.I16: "what clients were told is in the journal",
}
"""In words that fit on one line of a terminal; docs/design.md §13 has them in full."""


class Place(NamedTuple):
    """Where a check was made; None where it does not apply. *offset* is in ``journal`` unless *topic* names another."""

    partition: int | None
    seq: int | None = None
    offset: int | None = None
    topic: str = "journal"

    def __str__(self) -> str:
        offset = "offset" if self.topic == "journal" else f"{self.topic} offset"
        parts = (("partition", self.partition), ("seq", self.seq), (offset, self.offset))
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None) or "ledger"


class Failure(NamedTuple):
    """One broken promise."""

    invariant: Invariant
    place: Place
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}: expected {self.expected}, found {self.found}"

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.place._asdict(), "what": self.what, "expected": self.expected, "found": self.found}


@dataclass(slots=True)
class Line:
    """The result for one invariant."""

    invariant: Invariant
    checked: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    skipped: bool = False
    note: str = ""
    """Why nothing was checked, or numbers worth knowing."""

    @property
    def verdict(self) -> str:
        """``ok``, ``FAILED``, or ``not checked``."""
        if self.failed:
            return "FAILED"
        return "not checked" if self.skipped else "ok"


class Report:
    """One line per invariant. Mutable while the checker works; complete when ``verify`` returns it."""

    def __init__(self) -> None:
        self.lines = {invariant: Line(invariant) for invariant in Invariant}
        self.ledger_id: str | None = None
        self.partitions = 0
        self.events = 0
        self.seconds = 0.0

    @property
    def ok(self) -> bool:
        """Whether no promise was found broken."""
        return not any(line.failed for line in self.lines.values())

    def check(self, invariant: Invariant, number: int = 1) -> None:
        """Count *number* checks of *invariant*. Hot loops count on the line: hashing an enum is slow."""
        self.lines[invariant].checked += number

    def fail(self, invariant: Invariant, place: Place, what: str, expected: object, found: object) -> None:
        """Record a failure; beyond ``MAX_KEPT`` per invariant and partition it is only counted."""
        line = self.lines[invariant]
        line.failed += 1
        if sum(1 for kept in line.failures if kept.place.partition == place.partition) < MAX_KEPT:
            line.failures.append(Failure(invariant, place, what, _cut(expected), _cut(found)))

    def compare(self, invariant: Invariant, place: Place, what: str, expected: object, found: object) -> None:
        """Record a failure unless both are equal; the caller counts the check."""
        if expected != found:
            self.fail(invariant, place, what, expected, found)

    def skip(self, invariant: Invariant, why: str) -> None:
        """Say that nothing is checked, and why."""
        self.lines[invariant].skipped = True
        self.lines[invariant].note = why

    def failed(self, invariant: Invariant) -> list[Failure]:
        """The failures kept of *invariant*."""
        return self.lines[invariant].failures

    def to_plain(self) -> dict[str, Any]:
        """For JSON: ``ok``, totals, and per invariant its promise, counts, verdict and failures."""
        return {
            "ok": self.ok,
            "ledger_id": self.ledger_id,
            "partitions": self.partitions,
            "events": self.events,
            "seconds": round(self.seconds, 3),
            "invariants": [
                {
                    "invariant": line.invariant.value,
                    "promise": PROMISES[line.invariant],
                    "verdict": line.verdict,
                    "checked": line.checked,
                    "failed": line.failed,
                    "note": line.note,
                    "failures": [failure.to_plain() for failure in line.failures],
                }
                for line in self.lines.values()
            ],
        }


class Progress(NamedTuple):
    """How far the checker is: *done* of *total* units of *step* (journal offsets, input records, ...)."""

    step: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


def _cut(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
