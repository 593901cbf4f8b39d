"""What a request prescribes once it is accepted: the slow, plain reference of I3."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from schemas.config import DEFAULT_TIER
from schemas.events import AccountTerms, Leg
from schemas.requests import CloseAccount, Deposit, OpenAccount, Request, Transfer, UpdateAccount, Withdraw


def prescribed_legs(request: Request) -> list[Leg]:
    """Return the entry of an accepted *request*: debits first; empty where no money moves."""
    match request:
        case Deposit():
            outside = f"sys:external:{request.rail}:{request.currency}"
            return _pair(outside, request.account_id, request)
        case Withdraw():
            outside = f"sys:external:{request.rail}:{request.currency}"
            return _pair(request.account_id, outside, request)
        case Transfer():
            fees = [fee.amount_minor for fee in request.fees]
            amounts = [request.amount_minor, *fees]
            receivers = [request.payee, *[f"sys:fees:{request.currency}"] * len(fees)]
            debits = [_debit(request.account_id, amount, request) for amount in amounts]
            return debits + [_credit(to, amount, request) for to, amount in zip(receivers, amounts, strict=True)]
        case OpenAccount() | UpdateAccount() | CloseAccount():
            return []
        case _:
            assert_never(request)


def prescribed_terms(request: Request, before: AccountTerms | None) -> AccountTerms | None:
    """Return the account's terms behind an accepted *request*, or None where it does not touch them.

    *before* are the terms that were in force; None for an account that was never opened.
    """
    match request:
        case OpenAccount():
            return AccountTerms(
                account_id=request.account_id,
                currency=request.currency,
                normal_side=request.kind or "credit",
                status="open",
                tier=request.tier or DEFAULT_TIER,
                floor_minor=request.floor_minor or 0,
                ceiling_minor=request.ceiling_minor,
                attributes=request.attributes or {},
            )
        case UpdateAccount():
            if before is None:
                return None
            names = ("status", "tier", "floor_minor", "ceiling_minor", "attributes")
            given = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
            return replace(before, **given)
        case CloseAccount():
            return None if before is None else replace(before, status="closed")
        case Deposit() | Withdraw() | Transfer():
            return None
        case _:
            assert_never(request)


def _pair(debited: str, credited: str, request: Deposit | Withdraw) -> list[Leg]:
    return [_debit(debited, request.amount_minor, request), _credit(credited, request.amount_minor, request)]


def _debit(account_id: str, amount_minor: int, request: Deposit | Withdraw | Transfer) -> Leg:
    return (account_id, "debit", amount_minor, request.currency)


def _credit(account_id: str, amount_minor: int, request: Deposit | Withdraw | Transfer) -> Leg:
    return (account_id, "credit", amount_minor, request.currency)
