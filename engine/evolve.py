"""The only way state changes: apply an event that was decided. No business rules.

Integers are added, subtracted, multiplied and compared here; the one division is that of a time by an hour or a day,
whose quotient names the generation of a memory. An event comes from this version's ``decide`` or from a journal that an
earlier version wrote, so nothing is judged again. What cannot be applied raises, which halts the partition.
"""

from typing import assert_never

from engine.book import (
    HOURS_KEPT,
    Account,
    ActiveRuleset,
    Book,
    DayUsage,
    SystemAccount,
)
from engine.duplicates import payment_digest
from engine.idempotency import key_digest
from schemas.bounds import SYSTEM_PREFIX
from schemas.events import Answer, ConfigPickup, Leg, Profile, Skip, Usage


class CannotApply(Exception):
    """An event that does not fit the book: the journal or this program is broken, and the partition must halt."""


def evolve(
    book: Book,
    event: Answer | Skip | ConfigPickup,
    key: bytes | None = None,
    payment: bytes | None = None,
) -> None:
    """Apply *event*, the next one of the journal: seq, time, input position, then its effects.

    *key* and *payment* are the ``key_digest`` and ``payment_digest`` of an answer, where the caller has them from
    deciding it; they are computed from the event where they are ``None``.
    """
    _fit(book, event)
    book.seq += 1
    book.at = event.at
    match event:
        case Answer():
            book.next_offset[event.topic] = event.offset + 1
            _apply(book, event, key, payment)
        case Skip():
            book.next_offset[event.topic] = event.offset + 1
        case ConfigPickup():
            book.config_offset = event.offset + 1
            if event.verdict == "active" and event.version is not None:
                book.ruleset = ActiveRuleset(event.offset, event.sha256, event.version)
                book.versions[event.version] = event.sha256
        case _:
            assert_never(event)
    book.memory.forget(book.at)
    book.payments.forget(book.at)


def _fit(book: Book, event: Answer | Skip | ConfigPickup) -> None:
    """Raise :class:`CannotApply`, before anything is changed, if *event* cannot be the next one."""
    if event.at < book.at:
        raise CannotApply(f"event {book.seq + 1}: expected at >= {book.at}, got {event.at}")
    if isinstance(event, ConfigPickup):
        topic, expected = "config", book.config_offset
    else:
        topic, expected = event.topic, book.next_offset[event.topic]
    if event.offset < expected:
        raise CannotApply(f"event {book.seq + 1}: expected an offset of {topic} >= {expected}, got {event.offset}")


def _apply(book: Book, event: Answer, key: bytes | None, payment: bytes | None) -> None:
    account_id = event.account_id
    if account_id is None or event.replayed or not event.binding:
        return
    if event.request_id is None or event.requested_at is None or event.fingerprint is None:
        raise CannotApply(f"event {book.seq}: expected a binding answer to name its request, got {event.request_id!r}")
    key = key or key_digest(account_id, event.request_id)
    book.memory.remember(key, event.requested_at, bytes.fromhex(event.fingerprint), book.seq)
    if event.account is not None:
        account = book.accounts.get(account_id)
        if account is None:
            book.accounts[account_id] = Account(event.account)
        else:
            account.set_terms(event.account)
    for leg in event.legs:
        _post(book, leg)
    if event.usage is not None and event.type is not None:
        _use(book, book.accounts[account_id], event.type, event.usage)
    if event.payment is not None:
        paid = payment or payment_digest(account_id, event.payment.payee, event.payment.amount_minor)
        book.payments.remember(paid, book.at, book.seq)
    if event.profile is not None:
        learn(book.accounts[account_id], event.profile, event.at)


def _post(book: Book, leg: Leg) -> None:
    account_id, side, amount_minor, _ = leg
    counters: Account | SystemAccount | None
    if account_id.startswith(SYSTEM_PREFIX):
        counters = book.system_accounts.get(account_id)
        if counters is None:
            counters = book.system_accounts[account_id] = SystemAccount()
    else:
        counters = book.accounts[account_id]
    if side == "debit":
        counters.debits_posted += amount_minor
    else:
        counters.credits_posted += amount_minor


def _use(book: Book, account: Account, request_type: str, usage: Usage) -> None:
    used = account.usage.get(request_type)
    if used is None:
        used = account.usage[request_type] = DayUsage()
    used.add(usage.day, usage.amount_minor)
    used.forget(usage.day - book.horizon_days)


def learn(account: Account, profile: Profile, at: int) -> None:
    """Store the profile behind a payment that was accepted at *at*, and its hour."""
    account.habits, account.paid_at = profile, at
    account.hours = (account.hours + bytes((profile.hour,)))[-HOURS_KEPT:]
