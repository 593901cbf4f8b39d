"""One answering event of ``requests``: its request, the decision, the effects, and the outcome it publishes."""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

import orjson

from ledgerline.verify.accounts import Accounts
from ledgerline.verify.effects import prescribed_legs, prescribed_terms
from ledgerline.verify.limits import DAY_MS, Spent, headroom, limit_of
from ledgerline.verify.reading import unframed
from ledgerline.verify.reference import Answered, Reference
from ledgerline.verify.remembered import Remembered, Stage, content_of
from ledgerline.verify.report import Invariant, Place, Report
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.config import Bundle
from schemas.events import Answer
from schemas.outcomes import Outcome
from schemas.requests import Decoded, MoneyRequest, OpenAccount, Request, Unreadable, decode_request
from schemas.times import format_time

RECOUNTED: Final = frozenset(
    {"too_old", "from_the_future", "per_transaction_limit", "daily_sum_limit", "daily_count_limit"}
)
"""Refusals that only a recount can justify (I14)."""

BELOW_FUNDS: Final = frozenset(
    {
        None,
        "overflow",
        "insufficient_funds",
        "ceiling_exceeded",
        "per_transaction_limit",
        "daily_sum_limit",
        "daily_count_limit",
        "near_duplicate",
        "score_too_high",
    }
)
"""Acceptances, and refusals of checks 8 and later: their outcomes show the limits that apply."""


REPEATED: Final = ("request_id", "account_id", "type", "status", "reason", "binding", "score", "ruleset")
"""Fields of an event that its outcome repeats."""

FIELDS: Final = tuple(Outcome.model_fields)
"""Of an outcome, all of them, in order."""


class Case(NamedTuple):
    """An event with what it points to. What cannot be read is None; that was reported already."""

    place: Place
    event: Answer
    key: bytes | None
    sent: Decoded | Unreadable | None
    body: dict[str, Any] | None
    bundle: Bundle | None

    @property
    def request(self) -> Request | None:
        """The request, where it could be read."""
        return self.sent.request if isinstance(self.sent, Decoded) else None


class Answers:
    """Judges the answers of one partition in order and adds up what they do. Mutable, one owner.

    An event is applied as the journal has it, right or wrong: what follows is judged on what the journal says.
    """

    def __init__(self, report: Report, partition: int, partitions: int, retry_window_s: int) -> None:
        self.report = report
        self.partition = partition
        self.accounts = Accounts(report)
        self.remembered = Remembered(retry_window_s)
        self.spent = Spent()
        self.reference = Reference(partition, partitions, self.accounts, self.remembered, self.spent)
        self.reply_topics: set[str] = set()
        judged = (Invariant.I3, Invariant.I4, Invariant.I5, Invariant.I8, Invariant.I14, Invariant.I16)
        self._counted = [report.lines[invariant] for invariant in judged]  # one check each per answer

    def judge(self, place: Place, event: Answer, raw: bytes, outcome: bytes, bundle: Bundle | None) -> None:
        """Check *event* with its framed record *raw* (empty if it was not kept) and its outcome body."""
        key, sent = self._record(place, event, raw)
        case = Case(place, event, key, sent, self._body(place, outcome), bundle)
        if sent is not None:
            self._identity(case, sent)
            self._decision(case, self.reference.answer(key, sent, event.at, bundle))
        if event.status == "accepted" and not event.replayed:
            self._effects(case)
        else:
            self._no_effects(case)
        limits, rules = self._limits(case), self._rules(case)
        self._apply(case)
        if case.body is not None:
            self._outcome(case, case.body)
            if not event.replayed:
                self._balances(case, case.body)
                self.report.compare(Invariant.I14, place, "limits in the outcome", limits, case.body["limits"])
                self.report.compare(Invariant.I3, place, "rules in the outcome", rules, case.body["rules"])
        self._keep(case)
        for line in self._counted:
            line.checked += 1

    # ---- what the event points to

    def _record(self, place: Place, event: Answer, raw: bytes) -> tuple[bytes | None, Decoded | Unreadable | None]:
        """Return key and request of the record in the block; None where only its hash was kept."""
        if event.record[0] is None:
            if event.record[1] <= MAX_REQUEST_BYTES:
                expected = f"kept up to {MAX_REQUEST_BYTES} bytes"
                self.report.fail(Invariant.I8, place, "framed request", expected, f"{event.record[1]} bytes, not kept")
            return None, None
        found = hashlib.sha256(raw).hexdigest()
        if found != event.sha256:
            self.report.fail(Invariant.I8, place, "SHA-256 of the request in the block", event.sha256, found)
        try:
            key, headers, value = unframed(raw)
        except ValueError as error:
            self.report.fail(Invariant.I8, place, "request in the block", "a framed record", error)
            return None, None
        self.reply_topics.update(
            data.decode("utf-8", "replace") for name, data in headers if name == "reply-to" and data
        )
        return key, decode_request(value, MAX_REQUEST_BYTES)

    def _body(self, place: Place, outcome: bytes) -> dict[str, Any] | None:
        try:
            body = orjson.loads(outcome)
        except orjson.JSONDecodeError as error:
            self.report.fail(Invariant.I16, place, "outcome body in the block", "JSON", error)
            return None
        if type(body) is not dict or tuple(body) != FIELDS:
            found = list(body) if type(body) is dict else body
            self.report.fail(Invariant.I16, place, "fields of the outcome body", list(FIELDS), found)
            return None
        return body

    def _identity(self, case: Case, sent: Decoded | Unreadable) -> None:
        """What the event says about the request is what the request says."""
        event = case.event
        found = (event.request_id, event.account_id, event.type, event.requested_at, event.fingerprint)
        if isinstance(sent, Unreadable):
            expected: tuple[object, ...] = (sent.request_id, sent.account_id, sent.type, None, None)
        else:
            r = sent.request
            expected = (r.request_id, r.account_id, r.type, r.requested_at, sent.fingerprint.hex())
        self.report.compare(Invariant.I3, case.place, "ids, type, time, fingerprint of the request", expected, found)

    # ---- the decision

    def _decision(self, case: Case, expected: Answered) -> None:
        place, event = case.place, case.event
        if event.reason == "internal_error" and not event.replayed:
            # A defect of the engine, which the worker alarms: binding where check 4 had passed, before that not.
            if event.binding and not expected.remembered:
                self.report.fail(
                    Invariant.I4, place, "binding of an internal_error", expected.remembered, event.binding
                )
            return
        if expected.stage is not None or event.original is not None:
            self._cited(case, expected)
            return
        reason = expected.reason or _too_high(case)
        status = "accepted" if reason is None else "declined" if expected.remembered else "rejected"
        if (event.status, event.reason) != (status, reason):
            about = Invariant.I14 if {reason, event.reason} & RECOUNTED else Invariant.I3
            found = f"{event.status} {event.reason or ''}"
            self.report.fail(about, place, f"answer to {event.type}", f"{status} {reason or ''}", found)
        if event.binding != expected.remembered:
            self.report.fail(Invariant.I4, place, "binding", expected.remembered, event.binding)

    def _cited(self, case: Case, expected: Answered) -> None:
        """A replay or a conflict cites the one decision that the id has; a replay repeats its outcome."""
        place, event, stage = case.place, case.event, expected.stage
        if stage is None:
            self.report.fail(Invariant.I4, place, "answer to a new id", "no original", f"original {event.original}")
            return
        kind = "replay" if expected.replay else "idempotency_conflict"
        found = "replay" if event.replayed else (event.reason or "accepted")
        if (kind, stage.seq) != (found, event.original):
            expectation = f"{kind} of seq {stage.seq}"
            self.report.fail(
                Invariant.I4, place, "answer to a remembered id", expectation, f"{found} of seq {event.original}"
            )
        elif expected.replay and case.body is not None and content_of(case.body) != stage.content:
            wanted = f"the outcome of seq {stage.seq} but for seq and replayed"
            self.report.fail(Invariant.I4, place, "replay", wanted, orjson.dumps(case.body))

    # ---- effects

    def _effects(self, case: Case) -> None:
        """The entry, the terms and the counts of an acceptance are those that its type prescribes."""
        place, event, request = case.place, case.event, case.request
        if request is None:
            self.report.fail(Invariant.I3, place, "request that cannot be read", "no acceptance", "accepted")
            return
        account = self.accounts.get(request.account_id)
        terms = prescribed_terms(request, None if account is None else account.terms)
        self.report.compare(Invariant.I3, place, "entry", prescribed_legs(request), list(event.legs))
        self.report.compare(Invariant.I3, place, "terms of the account behind it", terms, event.account)
        usage = None if event.usage is None else (event.usage.day, event.usage.amount_minor)
        counted = (event.at // DAY_MS, request.amount_minor) if isinstance(request, MoneyRequest) else None
        self.report.compare(Invariant.I14, place, "day and amount that count towards limits", counted, usage)
        paid = None if event.payment is None else (event.payment.payee, event.payment.amount_minor)
        transfer = (request.payee, request.amount_minor) if request.type == "transfer" else None
        self.report.compare(Invariant.I3, place, "payee and amount to compare later transfers with", transfer, paid)

    def _no_effects(self, case: Case) -> None:
        event = case.event
        effects = (event.legs, event.account, event.usage, event.payment, event.profile)
        if effects != ((), None, None, None, None):
            what = f"effects of a {'replayed' if event.replayed else event.status} request"
            self.report.fail(Invariant.I3, case.place, what, "none", effects)

    def _apply(self, case: Case) -> None:
        place, event = case.place, case.event
        if event.account is not None:
            self.accounts.set_terms(place, event.account)
        if event.legs:
            self.accounts.post(place, event.legs)
        if event.account_id is None or event.type is None:
            return
        if event.usage is not None:
            self.spent.add(event.account_id, event.type, event.at, event.usage.amount_minor)
        if event.payment is not None:
            self.reference.paid(event.account_id, event.payment.payee, event.payment.amount_minor, event.at)

    def _keep(self, case: Case) -> None:
        """Remember a binding decision."""
        event = case.event
        if not event.binding or event.replayed:
            return
        account_id, request_id = event.account_id, event.request_id
        requested_at, fingerprint = event.requested_at, event.fingerprint
        if account_id is None or request_id is None or requested_at is None or fingerprint is None:
            self.report.fail(Invariant.I4, case.place, "a binding answer", "a request that could be read", "none")
            return
        content = b"" if case.body is None else content_of(case.body)
        stage = Stage(fingerprint, case.place.seq or 0, content)
        self.remembered.remember((account_id, request_id), requested_at, stage)

    # ---- the outcome

    def _outcome(self, case: Case, body: dict[str, Any]) -> None:
        """The outcome says what the event decided; the content of a replay was compared with its original's."""
        event, request = case.event, case.request
        expected: dict[str, object] = {"v": 1, "partition": self.partition, "seq": case.place.seq}
        expected["replayed"] = event.replayed
        if not event.replayed:
            for name in REPEATED:
                expected[name] = getattr(event, name)
            expected["final"] = event.binding
            expected["transaction"] = f"{self.partition}-{event.original or case.place.seq}"
            expected["at"] = format_time(event.at)
            if case.sent is not None:
                expected["amount_minor"] = request.amount_minor if isinstance(request, MoneyRequest) else None
            if isinstance(request, MoneyRequest | OpenAccount):
                expected["currency"] = request.currency
        wrong = [name for name, value in expected.items() if value != body[name] or type(value) is not type(body[name])]
        if wrong:
            stated, found = ({name: row[name] for name in wrong} for row in (expected, body))
            self.report.fail(Invariant.I16, case.place, "outcome of the event", stated, found)

    def _balances(self, case: Case, body: dict[str, Any]) -> None:
        """What a client is told about its money is the sum of the postings up to and including this event.

        Nothing is told by a rejection, or under a currency that is not the account's.
        """
        event, request = case.event, case.request
        told = event.status != "rejected" and event.account_id is not None
        account = self.accounts.get(event.account_id or "") if told else None
        if account is not None and isinstance(request, MoneyRequest | OpenAccount):
            account = account if request.currency == account.currency else None
        expected = (None, None) if account is None else (account.balance, account.available)
        found = (body["balance_minor"], body["available_minor"])
        self.report.compare(Invariant.I5, case.place, "balance and available in the outcome", expected, found)

    def _limits(self, case: Case) -> list[dict[str, Any]]:
        """The headroom that the outcome has to show, counted before this event is applied."""
        event, request = case.event, case.request
        if not isinstance(request, MoneyRequest) or event.replayed or event.reason not in BELOW_FUNDS:
            return []
        account = self.accounts.get(request.account_id)
        if case.bundle is None or account is None or account.terms is None:
            return []
        limit = limit_of(case.bundle, account.terms.tier, request.type, request.currency)
        if limit is None:
            return []
        before = self.spent.on(request.account_id, request.type, event.at)
        return headroom(limit, before, request.amount_minor if event.status == "accepted" else None)

    def _rules(self, case: Case) -> list[str]:
        """The rules that the outcome has to name: check 10, unless an earlier one refused."""
        event, request, bundle = case.event, case.request, case.bundle
        reached = event.reason in {None, "near_duplicate", "score_too_high"} and not event.replayed
        if bundle is None or not reached or not isinstance(request, MoneyRequest):
            return []
        named = bundle.near_duplicates.action != "pass" and self.reference.lookalike(request, event.at, bundle)
        return ["near_duplicate"] if named else []


def _too_high(case: Case) -> str | None:
    """Check 11: the score is the event's; what the threshold makes of it is not."""
    most = None if case.bundle is None else case.bundle.scoring.decline_at
    score = case.event.score
    return "score_too_high" if most is not None and score is not None and score >= most else None
