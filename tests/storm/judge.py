"""After the storm: does the journal hold exactly what every sender was told, once?"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from ledgerline.verify.feeds import KafkaFeed
from ledgerline.verify.reading import Meaning, Rule, split
from schemas.events import Answer, decode_events, span
from schemas.outcomes import Outcome, decode_outcome
from streams.kafka import Partition
from tests.storm.servers import Ledger
from tests.storm.traffic import Ears, Told

SHOWN: Final = 10


@dataclass(slots=True)
class Found:
    """What the journal holds of one (account, request id)."""

    bound: int = 0
    """Events that answer it for good."""
    booked: int = 0
    """Events with an entry."""


@dataclass(slots=True)
class Verdict:
    """What is wrong, and what was counted."""

    wrong: list[str] = field(default_factory=list)
    told: int = 0
    answers: int = 0
    replays: int = 0
    by_result: Counter[str] = field(default_factory=Counter)


async def judge(ledger: Ledger, ears: Ears, correlations: set[bytes]) -> Verdict:
    """Compare what *ears* heard with the journal. *correlations* are those of all published outcomes."""
    verdict = Verdict()
    by_event: dict[tuple[int, int], list[Told]] = defaultdict(list)
    for told in ears.told:
        by_event[told.outcome.partition, told.outcome.seq].append(told)
    found: dict[tuple[str, str], Found] = defaultdict(Found)
    feed = await KafkaFeed.open(ledger.kafka)
    try:
        journals = [Partition(ledger.topics.journal, p) for p in range(ledger.partitions)]
        rules = {journal: Rule() for journal in journals}
        ends = await feed.ends(journals)
        async for journal, records in feed.read({journal: (0, end) for journal, end in ends.items()}):
            for record in records:
                meaning, says = rules[journal].read(record.key, record.headers, record.value)
                if meaning is not Meaning.BLOCK:
                    continue
                events, raw = split(record.value)
                for seq, event in enumerate(decode_events(events), says.seq):
                    if isinstance(event, Answer):
                        _count(verdict, event, found)
                        for told in by_event.pop((journal.number, seq), ()):
                            _same(verdict, told, decode_outcome(span(raw, event.outcome) or b""))
    finally:
        await feed.close()
    for partition, seq in by_event:
        verdict.wrong.append(f"told as {partition}-{seq}: the journal has no such answer")
    for told in ears.told:
        _right(verdict, told, found)
    if len(ears.told) != ears.asked:
        verdict.wrong.append(f"{ears.asked} requests were sent, {len(ears.told)} have an answer")
    unanswered = ears.malformed - correlations
    if unanswered:
        verdict.wrong.append(f"{len(unanswered)} broken records have no outcome: {sorted(unanswered)[:SHOWN]}")
    return verdict


def _count(verdict: Verdict, event: Answer, found: dict[tuple[str, str], Found]) -> None:
    verdict.answers += 1
    verdict.replays += event.replayed
    verdict.by_result["replayed" if event.replayed else event.reason or event.status] += 1
    if event.account_id is None or event.request_id is None:
        return
    one = found[event.account_id, event.request_id]
    one.bound += event.binding and not event.replayed
    one.booked += bool(event.legs)


def _same(verdict: Verdict, told: Told, journaled: Outcome) -> None:
    """What was told is what the event holds."""
    verdict.told += 1
    if told.outcome != journaled:
        verdict.wrong.append(f"told {told.outcome}, the journal holds {journaled}")


def _right(verdict: Verdict, told: Told, found: dict[tuple[str, str], Found]) -> None:
    """One effect of its id, and the answer that its kind must get."""
    outcome, name = told.outcome, (str(told.request["account_id"]), str(told.request["request_id"]))
    where = f"{told.kind} {name[1]} of {name[0]} ({outcome.transaction})"
    one = found[name]
    if one.bound != 1 or one.booked > 1:
        verdict.wrong.append(f"{where}: decided {one.bound} times, booked {one.booked} times")
    if told.kind == "conflict":
        if outcome.reason != "idempotency_conflict" or told.of is None or outcome.transaction != told.of.transaction:
            verdict.wrong.append(f"{where}: expected a conflict with {told.of}, told {outcome}")
        return
    booked = outcome.status == "accepted" and outcome.type != "open_account"
    if not outcome.binding or one.booked != booked:
        verdict.wrong.append(f"{where}: told {outcome.status} ({outcome.reason}), booked {one.booked} times")
    if told.of is not None:
        first = told.of.model_copy(update={"seq": outcome.seq, "replayed": outcome.replayed})
        if outcome != first:
            verdict.wrong.append(f"{where}: expected the first answer again, {told.of}, told {outcome}")
    if told.kind == "overdraw" and outcome.reason != "insufficient_funds":
        verdict.wrong.append(f"{where}: expected insufficient_funds, told {outcome}")
