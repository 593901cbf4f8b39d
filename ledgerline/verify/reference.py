"""What the engine had to answer, from the request and the journal so far: docs/design.md §6 once more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from ledgerline.verify.accounts import Account, Accounts
from ledgerline.verify.effects import prescribed_legs, prescribed_terms
from ledgerline.verify.limits import Spent, exceeded, limit_of
from ledgerline.verify.remembered import Remembered, Stage
from schemas.config import DEFAULT_TIER, Bundle
from schemas.events import AccountTerms, Leg
from schemas.records import partition_of
from schemas.requests import (
    CloseAccount,
    Decoded,
    Deposit,
    OpenAccount,
    Request,
    Transfer,
    Unreadable,
    UpdateAccount,
    Withdraw,
)

MAX_COUNTER: Final = 2**62
ONE_REQUEST: Final = 9 * 10**15
"""The most that one request can add to a counter: its amount and eight fees."""
Money = Deposit | Withdraw | Transfer


class Answered(NamedTuple):
    """What an answer has to say: *reason* is None for an acceptance; *stage* is what a replay or conflict cites."""

    reason: str | None
    stage: Stage | None = None
    replay: bool = False
    remembered: bool = False


class Reference:
    """Reads the state that the checker has added up; changes nothing."""

    def __init__(
        self, partition: int, partitions: int, accounts: Accounts, remembered: Remembered, spent: Spent
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._accounts = accounts
        self._remembered = remembered
        self._spent = spent
        self._owners: dict[str, int] = {}
        self._payments: dict[tuple[str, str, int], int] = {}  # at of the latest by payer, payee, amount

    def owner(self, account_id: str) -> int:
        """Return the partition of *account_id*."""
        found = self._owners.get(account_id)
        if found is None:
            found = self._owners[account_id] = partition_of(account_id.encode(), self._partitions)
        return found

    def answer(self, key: bytes | None, sent: Decoded | Unreadable, at: int, bundle: Bundle | None) -> Answered:
        """Return the prescribed answer to *sent*, which came under *key*. Checks 1 to 4, then those of the type."""
        if isinstance(sent, Unreadable):
            return Answered(sent.reason)
        request = sent.request
        if key != request.account_id.encode():
            return Answered("wrong_key")
        if self.owner(request.account_id) != self._partition:
            return Answered("wrong_partition")
        who = (request.account_id, request.request_id)
        known = self._remembered.look_up(who, sent.fingerprint.hex(), request.requested_at, at)
        match known.finding:
            case "from_the_future" | "too_old":
                return Answered(known.finding)
            case "conflict":
                return Answered("idempotency_conflict", known.stage)
            case "replay":
                return Answered(None, known.stage, replay=True)
            case "fresh":
                return Answered(self._business(request, at, bundle), remembered=True)

    def _business(self, request: Request, at: int, bundle: Bundle | None) -> str | None:
        """Checks 5 to 10 in their order."""
        account = self._accounts.get(request.account_id)
        terms = None if account is None else account.terms
        if isinstance(request, OpenAccount):
            return "account_exists" if account is not None else _opening(request, bundle)
        if account is None or terms is None:
            return "account_not_found"
        if terms.status == "closed":
            return "account_closed"
        match request:
            case UpdateAccount():
                return _updating(request, account, terms, bundle)
            case CloseAccount():
                return "balance_not_zero" if account.balance or account.held else None
            case Deposit() | Withdraw() | Transfer():
                return self._moving(request, account, terms, at, bundle)

    def _moving(
        self, request: Money, account: Account, terms: AccountTerms, at: int, bundle: Bundle | None
    ) -> str | None:
        if terms.status == "frozen" and not isinstance(request, Deposit):
            return "account_frozen"
        if terms.currency != request.currency:
            return "currency_mismatch"
        if isinstance(request, Transfer):
            refused = self._payee(request)
            if refused is not None:
                return refused
        if not _has_tier(terms.tier, bundle):
            return "unknown_tier"
        refused = self._funds(request, account)
        if refused is not None or bundle is None:
            return refused
        limit = limit_of(bundle, terms.tier, request.type, request.currency)
        before = self._spent.on(request.account_id, request.type, at)
        if limit is not None:
            refused = exceeded(limit, before, request.amount_minor)
        if refused is None and bundle.near_duplicates.action == "decline" and self.lookalike(request, at, bundle):
            return "near_duplicate"
        return refused

    def _payee(self, request: Transfer) -> str | None:
        """Check 6: the payee is another account of this partition that takes this currency."""
        if request.payee == request.account_id:
            return "same_account"
        if self.owner(request.payee) != self._partition:
            return "payee_on_other_partition"
        payee = self._accounts.get(request.payee)
        if payee is None or payee.terms is None:
            return "payee_not_found"
        if payee.terms.status == "closed":
            return "payee_closed"
        return None if payee.currency == request.currency else "payee_currency_mismatch"

    def _funds(self, request: Money, account: Account) -> str | None:
        """Check 8: counters, funds, ceilings."""
        if self._accounts.highest >= MAX_COUNTER - ONE_REQUEST and self._overflows(prescribed_legs(request)):
            return "overflow"
        if isinstance(request, Deposit):
            return "ceiling_exceeded" if _above_ceiling(account, request.amount_minor) else None
        fees = sum(fee.amount_minor for fee in request.fees) if isinstance(request, Transfer) else 0
        if account.available < request.amount_minor + fees:
            return "insufficient_funds"
        payee = self._accounts.get(request.payee) if isinstance(request, Transfer) else None
        above = payee is not None and _above_ceiling(payee, request.amount_minor)
        return "ceiling_exceeded" if above else None

    def _overflows(self, legs: Sequence[Leg]) -> bool:
        """Whether a counter would reach 2^62: per account and side, the sum of its legs counts."""
        added: Counter[tuple[str, str]] = Counter()
        for account_id, side, amount_minor, _ in legs:
            added[account_id, side] += amount_minor
        for (account_id, way), amount_minor in added.items():
            account = self._accounts.get(account_id)
            posted = 0 if account is None else account.debits if way == "debit" else account.credits
            if posted + amount_minor >= MAX_COUNTER:
                return True
        return False

    def lookalike(self, request: Money, at: int, bundle: Bundle) -> bool:
        """Return whether check 10 finds a transfer like *request* in the bundle's window."""
        if not isinstance(request, Transfer):
            return False
        found = self._payments.get((request.account_id, request.payee, request.amount_minor))
        return found is not None and at - found <= bundle.near_duplicates.window_s * 1000

    def paid(self, payer: str, payee: str, amount_minor: int, at: int) -> None:
        """Remember an accepted transfer for check 10."""
        self._payments[payer, payee, amount_minor] = at


def _opening(request: OpenAccount, bundle: Bundle | None) -> str | None:
    if not _has_tier(request.tier or DEFAULT_TIER, bundle):
        return "unknown_tier"
    terms = prescribed_terms(request, None)
    return "insufficient_funds" if Account(request.currency, terms).available < 0 else None


def _updating(request: UpdateAccount, account: Account, terms: AccountTerms, bundle: Bundle | None) -> str | None:
    if request.tier is not None and not _has_tier(request.tier, bundle):
        return "unknown_tier"
    behind = replace(account, terms=prescribed_terms(request, terms))
    return "insufficient_funds" if behind.available < 0 else None


def _has_tier(tier: str, bundle: Bundle | None) -> bool:
    return bundle is None or tier in bundle.tiers


def _above_ceiling(account: Account, amount_minor: int) -> bool:
    """A credit may not lift a credit-normal account above its ceiling."""
    terms = account.terms
    if terms is None or terms.normal_side == "debit" or terms.ceiling_minor is None:
        return False
    return account.balance + amount_minor > terms.ceiling_minor
