"""One partition without Kafka: requests go in as values, decisions come out, and two books follow.

``book`` evolves with the decided events; ``folded`` with the same events after encoding and decoding, as in a restore.
"""

from typing import Any, Final

import orjson

from engine.book import Book
from engine.decide import Decision, decide, decide_config, needs, skip
from engine.digest import state_hash
from engine.evidence import Evidence
from engine.evolve import evolve
from engine.intake import Intake, read_intake
from schemas.codec import canonical
from schemas.config import Bundle
from schemas.events import Answer, ConfigPickup, Genesis, Skip, decode_events, encode_events
from schemas.outcomes import Outcome, decode_outcome, encode_outcome
from schemas.records import RawRecord, frame
from schemas.times import format_time, parse_time
from tests.engine.validated import assert_as_validated

NOON: Final = parse_time("2026-11-20T12:00:00Z")
LEDGER_ID: Final = "00000000-0000-4000-8000-000000000001"


def genesis(partition: int = 0, partitions: int = 1, *, at: int = NOON, retry_window_s: int = 86_400) -> Genesis:
    return Genesis(
        ledger_id=LEDGER_ID,
        partition=partition,
        partitions=partitions,
        format=1,
        at=at,
        retry_window_s=retry_window_s,
        ring_horizon_s=35 * 86_400,
        inputs={"requests": 0, "transfers": 0, "config": 0},
    )


def make_bundle(
    version: str = "v1",
    *,
    limits: list[dict[str, Any]] | None = None,
    tiers: dict[str, list[dict[str, Any]]] | None = None,
    near_duplicates: tuple[str, int] = ("pass", 60),
    decline_at: int | None = None,
) -> Bundle:
    action, window_s = near_duplicates
    return Bundle.model_validate(
        {
            "v": 1,
            "kind": "bundle",
            "version": version,
            "tiers": {name: {"limits": listed} for name, listed in {"standard": limits or [], **(tiers or {})}.items()},
            "near_duplicates": {"window_s": window_s, "action": action},
            "scoring": {} if decline_at is None else {"decline_at": decline_at},
        }
    )


def bundle_bytes(bundle: Bundle) -> bytes:
    return canonical(bundle.model_dump(exclude_none=True))


class Desk:
    """Sends values to one partition, at a time that only goes forward."""

    def __init__(self, bundle: Bundle, at_genesis: Genesis | None = None, *, checked: bool = True) -> None:
        self.genesis = at_genesis or genesis()
        self.at = self.genesis.at
        self.book = Book.from_genesis(self.genesis)
        self.folded = Book.from_genesis(self.genesis)
        self.checked = checked
        self.outcomes: dict[int, bytes] = {}
        self.decisions: list[Decision] = []
        self.events: list[Answer | Skip | ConfigPickup] = []
        self.offset = 0
        self.config_offset = 0
        self.raw = bytearray()
        self.bundle = bundle
        self.publish(bundle)

    def publish(self, bundle: Bundle) -> ConfigPickup:
        event = self.publish_bytes(bundle_bytes(bundle))
        assert event.verdict == "active", event.reason
        self.bundle = bundle
        return event

    def publish_bytes(self, value: bytes | None) -> ConfigPickup:
        event = decide_config(self.book, self.config_offset, value, "requests", self.offset, self.at)
        self.config_offset += 1
        self._apply(event)
        return event

    def skip(self) -> None:
        framed = frame(RawRecord(b"x", (), b"y"))
        event = skip(self.book, framed, self.book.next_offset["transfers"], self.at, len(self.raw))
        self.raw += framed
        self._apply(event)

    def take_block(self) -> tuple[list[Answer | Skip | ConfigPickup], bytes]:
        """Return the events since the last call, and the raw bytes that they point into."""
        events, raw = self.events, bytes(self.raw)
        self.events, self.raw = [], bytearray()
        return events, raw

    def wait(self, milliseconds: int) -> None:
        self.at += milliseconds

    def intake(self, value: bytes | None, key: bytes | None) -> Intake:
        record = RawRecord(key, (), value)
        return read_intake(record, frame(record), self.offset)

    def receive(self, value: bytes | None, key: bytes | None) -> Decision:
        """Decide the record and apply its event to both books."""
        intake = self.intake(value, key)
        before = state_hash(self.book) if self.checked else ""
        wanted = needs(self.book, intake)
        evidence = Evidence(original=None if wanted is None else self.outcomes[wanted])
        decision = decide(self.book, intake, evidence, self.at, self.bundle, len(self.raw))
        if self.checked:
            assert state_hash(self.book) == before, "decide changed the book"
        self.offset += 1
        kept = intake.framed if decision.event.record[0] is not None else b""
        self.raw += kept + decision.outcome + decision.explanation
        self._apply(decision.event, intake.digest, decision.payment_digest)
        outcome = decode_outcome(decision.outcome)
        assert encode_outcome(outcome) == decision.outcome, "not as the model encodes it"
        assert (outcome.partition, outcome.seq) == (self.book.partition, self.book.seq)
        assert orjson.dumps(orjson.loads(decision.explanation)) == decision.explanation, "not as orjson encodes it"
        self.outcomes[self.book.seq] = decision.outcome
        self.decisions.append(decision)
        return decision

    def send(self, request_type: str, account_id: str, request_id: str, **fields: Any) -> Outcome:
        """Send a request made now, unless ``requested_at`` says otherwise, with the right key."""
        value = {
            "v": 1,
            "type": request_type,
            "account_id": account_id,
            "request_id": request_id,
            "requested_at": format_time(self.at),
            **fields,
        }
        return decode_outcome(self.receive(canonical(value), account_id.encode()).outcome)

    def _apply(
        self, event: Answer | Skip | ConfigPickup, key: bytes | None = None, payment: bytes | None = None
    ) -> None:
        """Apply *event* as a worker does, with the digests of its decision, and as a fold does, without them."""
        assert_as_validated(event)
        evolve(self.book, event, key, payment)
        (again,) = decode_events(encode_events([event]))
        evolve(self.folded, again)
        self.events.append(event)
        if self.checked:
            assert state_hash(self.folded) == state_hash(self.book), f"the fold differs behind seq {self.book.seq}"
