"""Entries: the only functions that build legs. System accounts are named here.

A leg is written together with its counterpart on the other side, so an entry that does not balance cannot be built.
"""

from collections.abc import Iterable, Sequence

from schemas.events import Leg

Movement = tuple[str, str, int]
"""``(debited account, credited account, amount_minor)``."""


def external_account(rail: str, currency: str) -> str:
    """Return the system account of money outside of the ledger, by rail."""
    return f"sys:external:{rail}:{currency}"


def fees_account(currency: str) -> str:
    """Return the system account that earns fees."""
    return f"sys:fees:{currency}"


def entry(movements: Iterable[Movement], currency: str) -> tuple[Leg, ...]:
    """Return the legs of *movements*: all debits in their order, then all credits in the same order."""
    debited_legs: list[Leg] = []
    credited_legs: list[Leg] = []
    for debited, credited, amount_minor in movements:
        debit, credit = _movement(debited, credited, amount_minor, currency)
        debited_legs.append(debit)
        credited_legs.append(credit)
    return (*debited_legs, *credited_legs)


def deposit_entry(account_id: str, rail: str, amount_minor: int, currency: str) -> tuple[Leg, ...]:
    """Return the entry of money that came in over *rail*."""
    return _movement(external_account(rail, currency), account_id, amount_minor, currency)


def withdraw_entry(account_id: str, rail: str, amount_minor: int, currency: str) -> tuple[Leg, ...]:
    """Return the entry of money that leaves over *rail*."""
    return _movement(account_id, external_account(rail, currency), amount_minor, currency)


def transfer_entry(
    payer: str, payee: str, amount_minor: int, fees_minor: Sequence[int], currency: str
) -> tuple[Leg, ...]:
    """Return the entry of a transfer with its fees, each fee with legs of its own."""
    if not fees_minor:
        return _movement(payer, payee, amount_minor, currency)
    fees = [(payer, fees_account(currency), fee_minor) for fee_minor in fees_minor]
    return entry([(payer, payee, amount_minor), *fees], currency)


def _movement(debited: str, credited: str, amount_minor: int, currency: str) -> tuple[Leg, Leg]:
    assert amount_minor > 0, f"entry: expected a positive amount from {debited} to {credited}, got {amount_minor}"
    return (debited, "debit", amount_minor, currency), (credited, "credit", amount_minor, currency)
