"""What a partition's owner is doing, for ``/readyz`` and for whoever reads it at three in the morning."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streams.halts import Halted


class Phase(enum.Enum):
    """Where the owner is in its protocol."""

    IDLE = "idle"  # not assigned; perhaps with a warm state
    TAKING = "taking"
    OWNER = "owner"
    WAITING = "waiting"  # stepped down for a moment: fenced, or trouble with the brokers
    HALTED = "halted"


@dataclass(slots=True)
class Status:
    """Mutable, changed by its owner only."""

    phase: Phase = Phase.IDLE
    held: str | None = None
    """Owned, but nothing is decided: ``no_ruleset``, ``clock``, ``idempotency_budget``."""
    trouble: str | None = None
    """Why it steps down or is late: the last error, until the partition is owned again."""
    halted: Halted | None = None

    @property
    def well(self) -> bool:
        """Whether requests are being decided."""
        return self.phase is Phase.OWNER and self.held is None and self.trouble is None

    def plain(self) -> dict[str, object]:
        """For JSON: what does not apply is left out."""
        parts = {
            "phase": self.phase.value,
            "held": self.held,
            "trouble": self.trouble,
            "halted": self.halted.plain() if self.halted is not None else None,
        }
        return {name: part for name, part in parts.items() if part is not None}
