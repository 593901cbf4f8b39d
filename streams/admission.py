"""What keeps an owned partition from deciding: a missing ruleset, a full memory, a clock, a burst of defects."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

import structlog

from streams.batch import Defect
from streams.halts import Halt
from streams.held import Held
from streams.inputs import Input
from streams.services import Services

MAX_AHEAD_MS: Final = 60_000
"""A record this far ahead of the worker's clock is not decided (docs/design.md §8)."""

BUDGET_PERCENT: Final = 90
"""Of the idempotency entries that a partition may hold: there it stops consuming (docs/design.md §6)."""

INTERNAL_ERRORS: Final = 20
INTERNAL_ERRORS_WITHIN_S: Final = 60.0
"""That many requests answered with ``internal_error`` within that time halt the partition."""

Reason = Literal["no_ruleset", "idempotency_budget", "clock"]


def allowed(inputs: Sequence[Input], held: Held, services: Services) -> tuple[Reason | None, int]:
    """``(why none, how many)`` of *inputs* may be decided now."""
    if not held.decider.can_decide():
        return "no_ruleset", 0
    at = max(held.book.at, inputs[0].record.timestamp_ms) if inputs else held.book.at
    if held.book.memory.count(at) * 100 >= services.max_remembered * BUDGET_PERCENT:
        return "idempotency_budget", 0
    latest_ms = services.clock_ms() + MAX_AHEAD_MS
    for number, (_, record) in enumerate(inputs):
        if record.timestamp_ms > latest_ms:
            return "clock" if number == 0 else None, number
    return None, len(inputs)


class DefectWatch:
    """A defect that one request meets is answered and alarmed; a burst of them halts the partition."""

    def __init__(self, where: str, partition: int) -> None:
        self._where = where
        self._log = structlog.get_logger(__name__).bind(partition=partition)
        self._times: deque[float] = deque(maxlen=INTERNAL_ERRORS)

    def note(self, defects: Sequence[Defect]) -> None:
        """These were answered just now. Raises Halt."""
        now = time.monotonic()
        for defect in defects:
            self._times.append(now)
            trace = defect.error if defect is defects[0] else None  # the others of a block are usually the same
            said = self._log.bind(request_id=defect.request_id, offset=defect.offset)
            said.error("internal_error", error=repr(defect.error), exc_info=trace)
            if len(self._times) == INTERNAL_ERRORS and now - self._times[0] <= INTERNAL_ERRORS_WITHIN_S:
                raise Halt(
                    f"{INTERNAL_ERRORS} requests were answered with internal_error within "
                    f"{INTERNAL_ERRORS_WITHIN_S:.0f} s, the last with {defect.error!r}: "
                    "install a build without the defect",
                    topic=self._where,
                    offset=defect.offset,
                )
