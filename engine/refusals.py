"""Refusals are values: a stable reason, and one sentence for people. The checks have names for explanations."""

from dataclasses import dataclass
from typing import Final

from schemas.reasons import Reason

_LONGEST_DETAIL: Final = 400


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: ``detail`` names the field, what was expected and what was found, in one sentence."""

    reason: Reason
    detail: str


CHECKS: Final[dict[int, str]] = {
    1: "decodable",
    2: "owned here",
    3: "signed",
    4: "idempotency",
    5: "account",
    6: "references",
    7: "lists",
    8: "funds",
    9: "limits",
    10: "near-duplicates",
    11: "score",
    12: "accept",
}
"""The checks of docs/design.md §6, in their order."""

FAILED_CHECK: Final[dict[Reason, int]] = {
    Reason.MALFORMED: 1,
    Reason.TOO_LARGE: 1,
    Reason.UNSUPPORTED_TYPE: 1,
    Reason.WRONG_KEY: 2,
    Reason.WRONG_PARTITION: 2,
    Reason.FROM_THE_FUTURE: 4,
    Reason.IDEMPOTENCY_CONFLICT: 4,
    Reason.TOO_OLD: 4,
    Reason.ACCOUNT_NOT_FOUND: 5,
    Reason.ACCOUNT_EXISTS: 5,
    Reason.ACCOUNT_FROZEN: 5,
    Reason.ACCOUNT_CLOSED: 5,
    Reason.CURRENCY_MISMATCH: 5,
    Reason.SAME_ACCOUNT: 6,
    Reason.PAYEE_ON_OTHER_PARTITION: 6,
    Reason.PAYEE_NOT_FOUND: 6,
    Reason.PAYEE_CLOSED: 6,
    Reason.PAYEE_CURRENCY_MISMATCH: 6,
    Reason.UNKNOWN_TIER: 6,
    Reason.BALANCE_NOT_ZERO: 6,
    Reason.OVERFLOW: 8,
    Reason.INSUFFICIENT_FUNDS: 8,
    Reason.CEILING_EXCEEDED: 8,
    Reason.PER_TRANSACTION_LIMIT: 9,
    Reason.DAILY_SUM_LIMIT: 9,
    Reason.DAILY_COUNT_LIMIT: 9,
    Reason.NEAR_DUPLICATE: 10,
    Reason.SCORE_TOO_HIGH: 11,
}
"""The check that each reason belongs to; ``internal_error`` belongs to none."""


def readable(text: str) -> str:
    """Return *text* as Postgres can store it in JSON: no NUL, no lone surrogates, at most 400 characters."""
    clean = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= _LONGEST_DETAIL else clean[: _LONGEST_DETAIL - 1] + "…"
