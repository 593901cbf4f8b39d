"""What an account and a remembered request take in a worker's memory, and what deciding alone costs.

    python -m bench.memory ACCOUNTS        prints one JSON line

One partition is filled in a process of its own, through the engine as the worker calls it; the growth of the resident
set is divided. The outcome bodies that a worker keeps to answer retries quickly are bounded and not part of this.
"""

import gc
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice

import psutil

from bench.payments import BUNDLE, Accounts, Payments, fundings, now_ms, openings
from engine.book import Book
from engine.decide import decide, decide_config
from engine.evidence import NO_EVIDENCE
from engine.evolve import evolve
from engine.intake import read_intake
from ledgerline.demo.traffic import Outbound
from schemas.codec import canonical
from schemas.events import Genesis
from schemas.records import RawRecord, frame
from schemas.times import format_time

PAYMENTS_PER_ACCOUNT = 4


def genesis(at: int) -> Genesis:
    """A ledger of one partition."""
    return Genesis(
        ledger_id="00000000-0000-4000-8000-00000000be7c",
        partition=0,
        partitions=1,
        format=1,
        at=at,
        retry_window_s=86_400,
        ring_horizon_s=35 * 86_400,
        inputs={"requests": 0, "transfers": 0, "config": 0},
    )


class Filled:
    """A book that is filled; mutable."""

    def __init__(self) -> None:
        self.at = now_ms()
        self.book = Book.from_genesis(genesis(self.at))
        value = canonical(BUNDLE.model_dump(mode="json", exclude_none=True))
        evolve(self.book, decide_config(self.book, 0, value, "requests", 0, self.at))
        self.offset = 0

    def play(self, outbound: Iterator[Outbound]) -> tuple[int, float]:
        """Decide all of *outbound*; how many, and the growth of the resident set in bytes. Raises on a refusal."""
        before, number = _resident(), self.offset
        for one in outbound:
            record = RawRecord(one.key, (), one.value)
            intake = read_intake(record, frame(record), self.offset)
            decision = decide(self.book, intake, NO_EVIDENCE, self.at, BUNDLE, 0)
            if decision.event.status != "accepted":
                raise RuntimeError(f"expected a request that is accepted, got {decision.event}")
            evolve(self.book, decision.event)
            self.offset += 1
        return self.offset - number, _resident() - before


def measure(number: int) -> dict[str, float]:
    """Bytes per account, each with its remembered requests, and per further payment; CPU us per decision."""
    accounts, filled = Accounts.named(number), Filled()
    payments = Payments(accounts, "memory", 1)
    at = format_time(filled.at)
    names = list(accounts.all())
    opened, opened_bytes = filled.play(openings(accounts))
    _, funded_bytes = filled.play(fundings(accounts))
    _, first_bytes = filled.play(payments.next(at) for _ in names)
    gc.freeze()
    began = time.process_time()
    paid, paid_bytes = filled.play(islice(iter(lambda: payments.next(at), None), PAYMENTS_PER_ACCOUNT * number))
    seconds = time.process_time() - began
    return {
        "accounts": number,
        "requests": filled.offset,
        "bytes_per_account_opened": round(opened_bytes / opened),
        "bytes_per_account_opened_funded_and_paid_from": round((opened_bytes + funded_bytes + first_bytes) / number),
        "bytes_per_further_payment": round(paid_bytes / paid),
        "engine_cpu_us_per_decision": round(1e6 * seconds / paid, 1),
    }


def _resident() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
