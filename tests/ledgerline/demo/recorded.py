"""The figures of a small demo: 8 s, 4 partitions, two of them without an owner from 2.5 s to 5.5 s."""

from typing import Any, Final

from ledgerline.demo.figures import Figures
from ledgerline.demo.killed import Killed
from ledgerline.demo.timeline import Stand, Timeline, course_of
from ledgerline.verify.report import Invariant, Place, Report

BEGAN_MS: Final = 1_790_000_000_000
PARTITIONS: Final = 4
EVERY_MS: Final = 10
RECEIVED_FOR_MS: Final = 7_000
QUICK_MS: Final = 4
KILLED: Final = Killed(name="worker-1", partitions=frozenset({0, 2}), at_ms=BEGAN_MS + 2_500)
AGAIN_MS: Final = BEGAN_MS + 5_500
REQUESTS: Final = RECEIVED_FOR_MS // EVERY_MS


def timeline(killed: Killed | None = KILLED) -> Timeline:
    """A request every 10 ms, partition after partition, answered after 4 ms; without an owner when there is one."""
    found = Timeline()
    found.stood(Stand(at_ms=BEGAN_MS - 100, known=50, booked=50))
    for number in range(REQUESTS):
        partition, received_ms = number % PARTITIONS, BEGAN_MS + number * EVERY_MS
        orphaned = killed is not None and partition in killed.partitions and killed.at_ms <= received_ms < AGAIN_MS
        found.answered(partition, received_ms, AGAIN_MS if orphaned else received_ms + QUICK_MS)
    for looked in range(1, 16):
        known = min(REQUESTS, looked * 50)
        found.stood(Stand(at_ms=BEGAN_MS + looked * 500, known=50 + known, booked=50 + max(0, known - 20)))
    found.stood(Stand(at_ms=BEGAN_MS + 7_900, known=50 + REQUESTS, booked=50 + REQUESTS))
    return found


def figures(**changed: Any) -> Figures:
    """The figures of that demo, or of one that differs in what is *changed*."""
    killed: Killed | None = changed.get("killed", KILLED)
    given: dict[str, Any] = {
        "name": "demo-20260922-101500",
        "requests": REQUESTS,
        "rate": 100,
        "seed": 7,
        "accounts": 1_302,
        "elapsed_s": 7.9,
        "by_result": {
            ("transfer", "accepted", ""): 655,
            ("transfer", "replayed", ""): 21,
            ("transfer", "declined", "per_transaction_limit"): 14,
            ("transfer", "rejected", "idempotency_conflict"): 7,
            ("unreadable", "rejected", "malformed"): 3,
            ("open_account", "accepted", ""): 1_302,
            ("deposit", "accepted", ""): 842,
        },
        "repeated_publications": 6,
        "course": course_of(timeline(killed), PARTITIONS, killed),
        "killed": killed,
        "resumed_ms": {} if killed is None else {0: AGAIN_MS - 800, 2: AGAIN_MS},
        "rows": {"decisions": 2_844, "entries": 1_497, "postings": 2_994},
        "proof": proof(),
        "surroundings": {"commit": "2979a450f969", "Python": "3.11.7", "processor": "Some CPU, 2 cores"},
    }
    return Figures(**(given | changed))


def proof() -> Report:
    """Every invariant holds."""
    report = Report()
    report.ledger_id, report.partitions, report.events, report.seconds = "some-ledger", PARTITIONS, 2_852, 1.5
    for invariant in Invariant:
        report.check(invariant, 2_852)
    return report


def broken_proof(number: int) -> Report:
    """Entries that do not balance."""
    report = proof()
    for seq in range(number):
        report.fail(Invariant.I2, Place(partition=3, seq=seq), "the <entry>", "0", "1")
    return report
