"""The business checks, 5 to 12 of docs/design.md §6, by request type: what an owned, new and timely request does.

Each function is a flat list of guards in the order of the checks; behind the last guard the request must succeed.
"""

from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from engine.book import Account, Book
from engine.checks import (
    AnyTransfer,
    closed,
    covered,
    funded,
    known_tier,
    not_found,
    payable,
    representable,
    usable,
    within_ceiling,
)
from engine.duplicates import payment_digest
from engine.entries import deposit_entry, transfer_entry, withdraw_entry
from engine.limits import exceeded, standing
from engine.refusals import Refusal
from engine.rulings import Effects, Findings
from engine.scoring import score
from schemas.bounds import DAY_MS
from schemas.config import DEFAULT_TIER, Bundle
from schemas.currencies import format_amount
from schemas.events import AccountTerms, Leg, Payment, Profile, Usage
from schemas.outcomes import transaction_id
from schemas.plain import PlainTransfer
from schemas.reasons import Reason
from schemas.requests import CloseAccount, Deposit, OpenAccount, Request, Transfer, UpdateAccount, Withdraw


class Case(Struct, frozen=True, gc=False):
    """What a request is decided with: the book, which is only read, the bundle in force, the time, and notes."""

    book: Book
    bundle: Bundle
    at: int
    findings: Findings


def settle(case: Case, request: Request | PlainTransfer) -> Effects | Refusal:
    """Return what *request* changes, or why not."""
    match request:
        # The most frequent first: to be no instance of a pydantic class takes half a microsecond.
        case PlainTransfer() | Transfer():
            return _transfer(case, request)
        case Deposit():
            return _deposit(case, request)
        case Withdraw():
            return _withdraw(case, request)
        case OpenAccount():
            return _open(case, request)
        case UpdateAccount():
            return _update(case, request)
        case CloseAccount():
            return _close(case, request)
        case _:
            assert_never(request)


def _open(case: Case, request: OpenAccount) -> Effects | Refusal:
    existing = case.book.accounts.get(request.account_id)
    if existing is not None:
        found = f"{existing.account_id} is {existing.status}: an account id is never used again"
        return Refusal(Reason.ACCOUNT_EXISTS, f"account_id: {found}")
    terms = AccountTerms(
        account_id=request.account_id,
        currency=request.currency,
        normal_side=request.kind or "credit",
        status="open",
        tier=request.tier or DEFAULT_TIER,
        floor_minor=request.floor_minor or 0,
        ceiling_minor=request.ceiling_minor,
        attributes=request.attributes or {},
    )
    case.findings.tier = terms.tier
    refusal = known_tier(terms.tier, case.bundle) or covered(Account(terms), terms.floor_minor, terms.ceiling_minor)
    return refusal or Effects(account=terms)


def _update(case: Case, request: UpdateAccount) -> Effects | Refusal:
    account = case.book.accounts.get(request.account_id)
    if account is None:
        return not_found(request.account_id)
    if account.status == "closed":
        return closed(request.account_id)
    before = account.terms()
    terms = AccountTerms(
        account_id=before.account_id,
        currency=before.currency,
        normal_side=before.normal_side,
        status=before.status if request.status is None else request.status,
        tier=before.tier if request.tier is None else request.tier,
        floor_minor=before.floor_minor if request.floor_minor is None else request.floor_minor,
        ceiling_minor=before.ceiling_minor if request.ceiling_minor is None else request.ceiling_minor,
        attributes=before.attributes if request.attributes is None else request.attributes,
    )
    case.findings.tier = terms.tier
    refusal = known_tier(terms.tier, case.bundle) if request.tier is not None else None
    return refusal or covered(account, terms.floor_minor, terms.ceiling_minor) or Effects(account=terms)


def _close(case: Case, request: CloseAccount) -> Effects | Refusal:
    account = case.book.accounts.get(request.account_id)
    if account is None:
        return not_found(request.account_id)
    if account.status == "closed":
        return closed(request.account_id)
    if account.balance_minor or account.held:
        balance, held = (format_amount(minor, account.currency) for minor in (account.balance_minor, account.held))
        found = f"{account.account_id} has a balance of {balance} {account.currency} and {held} held"
        return Refusal(Reason.BALANCE_NOT_ZERO, f"account_id: {found}, expected 0")
    return Effects(account=replace(account.terms(), status="closed"))


def _deposit(case: Case, request: Deposit) -> Effects | Refusal:
    account = case.book.accounts.get(request.account_id)
    if (refusal := usable(account, request)) or account is None:
        return refusal or not_found(request.account_id)
    case.findings.tier = account.tier
    if refusal := known_tier(account.tier, case.bundle):
        return refusal
    amount_minor, currency = request.amount_minor, request.currency
    legs = deposit_entry(account.account_id, request.rail, amount_minor, currency)
    case.findings.standing = standing(account, case.bundle.tiers[account.tier], request.type, currency, case.at)
    if refusal := representable(case.book, legs) or within_ceiling(account, amount_minor):
        return refusal
    if refusal := _within_limits(case, amount_minor, currency):
        return refusal

    # From here on the deposit must succeed: nothing below may refuse.
    return Effects(legs=legs, usage=_usage(case, amount_minor))


def _withdraw(case: Case, request: Withdraw) -> Effects | Refusal:
    account = case.book.accounts.get(request.account_id)
    if (refusal := usable(account, request)) or account is None:
        return refusal or not_found(request.account_id)
    case.findings.tier = account.tier
    if refusal := known_tier(account.tier, case.bundle):
        return refusal
    amount_minor, currency = request.amount_minor, request.currency
    legs = withdraw_entry(account.account_id, request.rail, amount_minor, currency)
    case.findings.standing = standing(account, case.bundle.tiers[account.tier], request.type, currency, case.at)
    if refusal := _spendable(case, account, legs, amount_minor):
        return refusal
    if refusal := _within_limits(case, amount_minor, currency) or _unsurprising(case, account, amount_minor):
        return refusal

    # From here on the withdrawal must succeed: nothing below may refuse.
    return Effects(legs=legs, usage=_usage(case, amount_minor), profile=_profile(case))


def _transfer(case: Case, request: AnyTransfer) -> Effects | Refusal:
    account = case.book.accounts.get(request.account_id)
    if (refusal := usable(account, request)) or account is None:
        return refusal or not_found(request.account_id)
    case.findings.tier = account.tier
    if refusal := payable(case.book, request) or known_tier(account.tier, case.bundle):
        return refusal
    payee, amount_minor, currency = request.payee, request.amount_minor, request.currency
    fees = [fee.amount_minor for fee in request.fees]
    legs = transfer_entry(account.account_id, payee, amount_minor, fees, currency)
    case.findings.standing = standing(account, case.bundle.tiers[account.tier], request.type, currency, case.at)
    if refusal := _spendable(case, account, legs, amount_minor + sum(fees)):
        return refusal
    if refusal := within_ceiling(case.book.accounts[payee], amount_minor):
        return refusal
    if refusal := _within_limits(case, amount_minor, currency) or _new(case, account, payee, amount_minor):
        return refusal
    if refusal := _unsurprising(case, account, amount_minor):
        return refusal

    # From here on the transfer must succeed: nothing below may refuse.
    return Effects(
        legs=legs,
        usage=_usage(case, amount_minor),
        payment=Payment(payee=payee, amount_minor=amount_minor),
        profile=_profile(case),
    )


def _spendable(case: Case, account: Account, legs: tuple[Leg, ...], needed_minor: int) -> Refusal | None:
    """Check 8 for debits; notes what the account had."""
    case.findings.needed_minor = needed_minor
    case.findings.available_minor = available = account.available_minor
    return representable(case.book, legs) or funded(account, available, needed_minor)


def _within_limits(case: Case, amount_minor: int, currency: str) -> Refusal | None:
    """Check 9."""
    now = case.findings.standing
    return None if now is None else exceeded(now, amount_minor, currency)


def _new(case: Case, account: Account, payee: str, amount_minor: int) -> Refusal | None:
    """Check 10: pass, tag or decline a transfer like an earlier one, as the bundle says."""
    rule = case.bundle.near_duplicates
    digest = case.findings.payment_digest = payment_digest(account.account_id, payee, amount_minor)
    found = case.findings.lookalike = case.book.payments.find(digest, case.at, rule.window_s * 1000)
    if found is None:
        return None
    case.findings.lookalike_age_ms = case.at - found.at
    if rule.action == "pass":
        return None
    case.findings.rules = ("near_duplicate",)
    if rule.action == "tag":
        return None
    earlier = transaction_id(case.book.partition, found.seq)
    return Refusal(
        Reason.NEAR_DUPLICATE,
        f"request_id: {earlier} paid {format_amount(amount_minor, account.currency)} {account.currency} to"
        f" {payee} {case.at - found.at} ms ago, expected no such transfer within {rule.window_s} s",
    )


def _unsurprising(case: Case, account: Account, amount_minor: int) -> Refusal | None:
    """Check 11: score the payment, and decline where the bundle has a threshold that it reaches."""
    found = case.findings.score = score(account, amount_minor, case.at)
    most = case.bundle.scoring.decline_at
    if most is not None and found.total >= most:
        return Refusal(
            Reason.SCORE_TOO_HIGH,
            f"score: expected less than {most}, found {found.total}"
            f" (amount {found.amount}, velocity {found.velocity}, hour {found.hour})",
        )
    return None


def _profile(case: Case) -> Profile | None:
    return None if case.findings.score is None else case.findings.score.profile


def _usage(case: Case, amount_minor: int) -> Usage:
    return Usage(day=case.at // DAY_MS, amount_minor=amount_minor)
