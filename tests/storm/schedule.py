"""Which faults a storm has, in which order: drawn from its seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from streams.kafka import SESSION_TIMEOUT_MS

WORKERS: Final = 3
SINKS: Final = 2
CALM_S: Final = 5.0
"""Traffic without faults at the beginning: the rate that this machine shows undisturbed is measured here."""
SPACING_S: Final = (0.5, 3.0)
"""From the end of one fault to the beginning of the next. What a fault sets off goes on meanwhile."""
PAUSE_BEYOND_SESSION_S: Final = (0.5, 2.5)
DOWN_S: Final = (0.2, 3.0)
RESERVED_S: Final = 5.0
"""What a fault takes on average, its spacing included: so many seconds of traffic make one fault."""
AIMED_SHARE: Final = 0.5
"""Of the faults after the first of each kind, which are all aimed."""


class Kind(StrEnum):
    """What can be done to a running ledger."""

    KILL_WORKER = "SIGKILL worker"
    PAUSE_WORKER = "SIGSTOP worker"
    KILL_SINK = "SIGKILL sink"
    PAUSE_SINK = "SIGSTOP sink"
    KILL_BROKER = "SIGKILL broker"
    KILL_POSTGRES = "SIGKILL Postgres"
    RESTART_POSTGRES = "restart Postgres"


WEIGHTS: Final = {
    Kind.KILL_WORKER: 4,
    Kind.PAUSE_WORKER: 4,
    Kind.KILL_SINK: 2,
    Kind.PAUSE_SINK: 2,
    Kind.KILL_BROKER: 2,
    Kind.KILL_POSTGRES: 1,
    Kind.RESTART_POSTGRES: 1,
}
"""How often each kind is drawn once every kind has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. *victim* is the number of a worker or sink; servers have none."""

    kind: Kind
    wait_s: float
    """Since the end of the fault before."""
    victim: int
    pause_s: float
    """How long a victim is stopped at least; it stays so until others have taken what it had."""
    down_s: float
    """How long a server stays dead before it is started again."""
    aimed: bool
    """Whether to wait for a moment in which work is in flight; a blind one meets whatever there is."""


def schedule(seed: int, seconds: float) -> list[Fault]:
    """The faults for *seconds* of traffic: each kind once, then more by weight. Equal seeds, equal lists."""
    chance = random.Random(f"storm/{seed}/faults")
    more = max(0, int((seconds - CALM_S) / RESERVED_S) - len(Kind))
    kinds = chance.sample(list(Kind), len(Kind))
    kinds += chance.choices(list(WEIGHTS), weights=list(WEIGHTS.values()), k=more)
    return [
        Fault(
            kind=kind,
            wait_s=chance.uniform(*SPACING_S),
            victim=chance.randrange(SINKS if kind in {Kind.KILL_SINK, Kind.PAUSE_SINK} else WORKERS),
            pause_s=SESSION_TIMEOUT_MS / 1000 + chance.uniform(*PAUSE_BEYOND_SESSION_S),
            down_s=chance.uniform(*DOWN_S),
            aimed=number < len(Kind) or chance.random() < AIMED_SHARE,
        )
        for number, kind in enumerate(kinds)
    ]
