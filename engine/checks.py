"""The checks of docs/design.md §6 that need only the book: each returns why a request is refused, or ``None``."""

from engine.book import Account, Book, available_minor
from engine.refusals import Refusal
from schemas.bounds import CLOCK_SKEW_MS, MAX_COUNTER, SYSTEM_PREFIX
from schemas.config import Bundle
from schemas.currencies import format_amount
from schemas.events import Leg, Side
from schemas.plain import PlainTransfer
from schemas.reasons import Reason
from schemas.records import partition_of
from schemas.requests import Deposit, Transfer, Withdraw
from schemas.times import format_time

AnyTransfer = PlainTransfer | Transfer
Money = Deposit | Withdraw | AnyTransfer


def owned(book: Book, record_key: bytes | None, account_id: str) -> Refusal | None:
    """Check 2: the record's key is the account, and the account belongs to this partition."""
    key = account_id.encode()
    if record_key != key:
        found = "null" if record_key is None else record_key.decode("utf-8", "backslashreplace")
        return Refusal(Reason.WRONG_KEY, f"record key: expected the account_id {account_id}, found {found}")
    if account_id in book.accounts:  # it was opened here
        return None
    owner = partition_of(key, book.genesis.partitions)
    if owner != book.partition:
        return Refusal(
            Reason.WRONG_PARTITION,
            f"record: {account_id} belongs to partition {owner}, found in partition {book.partition}",
        )
    return None


def too_early(requested_at: int, at: int) -> Refusal | None:
    """Check 4, before the look-up: the request was not made more than a minute after *at*."""
    if requested_at > at + CLOCK_SKEW_MS:
        latest, found = format_time(at + CLOCK_SKEW_MS), format_time(requested_at)
        return Refusal(Reason.FROM_THE_FUTURE, f"requested_at: expected at most {latest}, found {found}")
    return None


def too_late(book: Book, requested_at: int, at: int) -> Refusal | None:
    """Check 4, when nothing was found: the request is young enough that its answer would still be remembered."""
    earliest = at - book.memory.retry_window_ms
    if requested_at < earliest:
        found = format_time(requested_at)
        return Refusal(Reason.TOO_OLD, f"requested_at: expected at least {format_time(earliest)}, found {found}")
    return None


def usable(account: Account | None, request: Money) -> Refusal | None:
    """Check 5 for money: the account exists, is open (a frozen one takes credits only), and has the currency."""
    if account is None:
        return not_found(request.account_id)
    if account.status == "closed":
        return closed(account.account_id)
    if account.status == "frozen" and request.type != "deposit":
        return Refusal(Reason.ACCOUNT_FROZEN, f"account_id: {account.account_id} is frozen: no new debits")
    if account.currency != request.currency:
        return Refusal(
            Reason.CURRENCY_MISMATCH,
            f"currency: {account.account_id} is an account in {account.currency}, found {request.currency}",
        )
    return None


def not_found(account_id: str) -> Refusal:
    """Check 5: there is no such account."""
    return Refusal(Reason.ACCOUNT_NOT_FOUND, f"account_id: {account_id} was never opened")


def closed(account_id: str) -> Refusal:
    """Check 5: the account is closed for ever."""
    return Refusal(Reason.ACCOUNT_CLOSED, f"account_id: {account_id} is closed")


def payable(book: Book, request: AnyTransfer) -> Refusal | None:
    """Check 6: the payee is another account, of this partition, not closed, in the same currency."""
    payee_id = request.payee
    if payee_id == request.account_id:
        return Refusal(Reason.SAME_ACCOUNT, f"payee: expected another account than {payee_id}")
    payee = book.accounts.get(payee_id)
    if payee is None:
        owner = partition_of(payee_id.encode(), book.genesis.partitions)
        if owner == book.partition:
            return Refusal(Reason.PAYEE_NOT_FOUND, f"payee: {payee_id} was never opened")
        return Refusal(
            Reason.PAYEE_ON_OTHER_PARTITION,
            f"payee: {payee_id} belongs to partition {owner}, {request.account_id} to {book.partition}:"
            " transfers between partitions are not possible yet",
        )
    if payee.status == "closed":
        return Refusal(Reason.PAYEE_CLOSED, f"payee: {payee_id} is closed")
    if payee.currency != request.currency:
        return Refusal(
            Reason.PAYEE_CURRENCY_MISMATCH,
            f"payee: {payee_id} is an account in {payee.currency}, found {request.currency}",
        )
    return None


def known_tier(tier: str, bundle: Bundle) -> Refusal | None:
    """Check 6: the bundle in force has the tier.

    An account whose tier a later bundle left out moves no money of its own until it gets another tier: without the
    tier nobody has said what it may do.
    """
    if tier not in bundle.tiers:
        known = ", ".join(bundle.tiers)
        return Refusal(Reason.UNKNOWN_TIER, f"tier: expected one of {known} (bundle {bundle.version}), found {tier}")
    return None


def representable(book: Book, legs: tuple[Leg, ...]) -> Refusal | None:
    """Check 8: every counter that *legs* add to stays below 2^62."""
    reached: dict[tuple[str, Side], int] = {}
    for account_id, side, amount_minor, _ in legs:
        counter = (account_id, side)
        before = reached.get(counter) or _posted(book, account_id, side)
        after = reached[counter] = before + amount_minor
        if after >= MAX_COUNTER:
            return Refusal(Reason.OVERFLOW, f"amount_minor: the {side}s of {account_id} would reach 2^62")
    return None


def _posted(book: Book, account_id: str, side: Side) -> int:
    system = account_id.startswith(SYSTEM_PREFIX)
    counters = book.system_accounts.get(account_id) if system else book.accounts[account_id]
    if counters is None:
        return 0
    return counters.debits_posted if side == "debit" else counters.credits_posted


def funded(account: Account, available: int, needed_minor: int) -> Refusal | None:
    """Check 8: *needed_minor*, the amount with its fees, is within what is *available* on *account*."""
    if needed_minor > available:
        return Refusal(
            Reason.INSUFFICIENT_FUNDS,
            f"amount_minor: {account.account_id} has {format_amount(available, account.currency)} {account.currency}"
            f" available, {format_amount(needed_minor, account.currency)} are needed",
        )
    return None


def within_ceiling(account: Account, amount_minor: int) -> Refusal | None:
    """Check 8: a credit-normal account's balance stays within its ceiling behind a credit."""
    if account.normal_side == "debit" or account.ceiling_minor is None:
        return None
    balance = account.balance_minor + amount_minor
    if balance > account.ceiling_minor:
        return Refusal(
            Reason.CEILING_EXCEEDED,
            f"amount_minor: {account.account_id} may hold {format_amount(account.ceiling_minor, account.currency)}"
            f" {account.currency}, it would hold {format_amount(balance, account.currency)}",
        )
    return None


def covered(account: Account, floor_minor: int, ceiling_minor: int | None) -> Refusal | None:
    """Check 8 for terms: *account* could have these bounds without a negative available amount."""
    available = available_minor(account, account.balance_minor, floor_minor, ceiling_minor)
    if available < 0:
        return Refusal(
            Reason.INSUFFICIENT_FUNDS,
            f"floor_minor, ceiling_minor: {format_amount(available, account.currency)} {account.currency} would be"
            f" available on {account.account_id}, expected at least 0",
        )
    return None
