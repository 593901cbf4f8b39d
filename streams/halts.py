"""Why a partition stopped for a person to look at: what, where, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from streams.journal.errors import JournalHalt


class Halt(Exception):
    """A broken invariant outside the journal; the partition stops, the others go on."""

    def __init__(self, cause: str, *, topic: str, offset: int | None, sha256: str | None = None) -> None:
        place = topic if offset is None else f"{topic} offset {offset}"
        super().__init__(f"{place}: {cause}")
        self.cause = cause
        self.topic = topic
        self.offset = offset
        self.sha256 = sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Halted:
    """What ``/readyz``, the metric and the log say about a halted partition."""

    topic: str | None
    """With its partition, where it is known."""
    offset: int | None
    sha256: str | None
    cause: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """What *error* says about itself."""
        match error:
            case Halt():
                return cls(topic=error.topic, offset=error.offset, sha256=error.sha256, cause=error.cause)
            case JournalHalt():
                return cls(topic=error.where, offset=error.offset, sha256=None, cause=str(error))
            case _:
                return cls(topic=None, offset=None, sha256=None, cause=repr(error))

    def plain(self) -> dict[str, object]:
        """For JSON and for the log."""
        return {"topic": self.topic, "offset": self.offset, "sha256": self.sha256, "cause": self.cause}
