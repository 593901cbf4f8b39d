"""A request between its sending and its answer, and how that can end badly."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledgerline.client.preparing import Prepared
from schemas.outcomes import Outcome
from streams.kafka import Outgoing, Partition


class ClientClosed(RuntimeError):
    """The client was closed, or not started, while a request needed it. Whether a sent one is decided is unknown."""


class NoAnswer(TimeoutError):
    """No outcome came in time. The request may have been decided, or may still be.

    Send ``request`` again (it keeps ``request_id`` and ``requested_at``), or look the outcome up; never use a new id.
    """

    def __init__(self, request: Mapping[str, Any], message: str) -> None:
        super().__init__(message)
        self.request = request


@dataclass(slots=True, eq=False)
class UnderWay:
    """What is known about one request. Mutable: the sender counts copies, the reader resolves ``answer``."""

    prepared: Prepared
    to: Partition
    outgoing: Outgoing
    final: bool
    answer: asyncio.Future[Outcome]
    started: float = field(default_factory=time.monotonic)
    queued: bool = False
    attempts: int = 0
    acknowledged: int = 0
    problem: str | None = None
    stage: Outcome | None = None
    seen: set[int] = field(default_factory=set)

    def no_answer(self, answered_on: str) -> NoAnswer:
        """The error for a caller whose time is up: what happened, what is known, what to do."""
        its, waited = self.prepared, time.monotonic() - self.started
        wanted = f"{'final ' if self.final else ''}outcome of request {its.request_id} of account {its.account_id}"
        if self.stage is not None:
            known = f"its last stage is {self.stage.status} (transaction {self.stage.transaction})"
        elif self.acknowledged:
            copies = "once" if self.acknowledged == 1 else f"{self.acknowledged} times"
            known = f"it lies {copies} in {self.to}, and nothing on {answered_on} answered it; is a worker running?"
        elif self.attempts:
            why = f"; last problem: {self.problem}" if self.problem is not None else ""
            known = f"{self.to} acknowledged no copy of it: it may lie there or not{why}"
        else:
            known = f"it was not sent to {self.to}: no connection, or too many requests under way"
        then = (
            "send the same request again (the same request_id and requested_at), "
            f"or look it up: ledgerline outcome {its.request_id}"
        )
        return NoAnswer(its.request, f"no {wanted} within {waited:.1f} s; {known}; {then}")
