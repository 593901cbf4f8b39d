"""Reason codes of refusals: a closed set of stable names. Each has an anchor in docs/requests.md; none is renamed."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused. The comment groups are the checks of docs/design.md §6, in order."""

    # 1 decodable, in bounds
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TYPE = "unsupported_type"
    # 2 owned here
    WRONG_KEY = "wrong_key"
    WRONG_PARTITION = "wrong_partition"
    # 4 idempotency
    FROM_THE_FUTURE = "from_the_future"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    TOO_OLD = "too_old"
    # any check: a defect of the engine, alarmed
    INTERNAL_ERROR = "internal_error"
    # 5 account exists, open, currency
    ACCOUNT_NOT_FOUND = "account_not_found"
    ACCOUNT_EXISTS = "account_exists"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_CLOSED = "account_closed"
    CURRENCY_MISMATCH = "currency_mismatch"
    # 6 shape and references of the type
    SAME_ACCOUNT = "same_account"
    PAYEE_ON_OTHER_PARTITION = "payee_on_other_partition"
    PAYEE_NOT_FOUND = "payee_not_found"
    PAYEE_CLOSED = "payee_closed"
    PAYEE_CURRENCY_MISMATCH = "payee_currency_mismatch"
    UNKNOWN_TIER = "unknown_tier"
    BALANCE_NOT_ZERO = "balance_not_zero"
    # 8 funds, ceiling
    OVERFLOW = "overflow"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    CEILING_EXCEEDED = "ceiling_exceeded"
    # 9 limits
    PER_TRANSACTION_LIMIT = "per_transaction_limit"
    DAILY_SUM_LIMIT = "daily_sum_limit"
    DAILY_COUNT_LIMIT = "daily_count_limit"
    # 10 near-duplicates
    NEAR_DUPLICATE = "near_duplicate"
    # 11 rules and score
    SCORE_TOO_HIGH = "score_too_high"


NEVER_BINDING = frozenset(
    {
        Reason.MALFORMED,
        Reason.TOO_LARGE,
        Reason.UNSUPPORTED_TYPE,
        Reason.WRONG_KEY,
        Reason.WRONG_PARTITION,
        Reason.FROM_THE_FUTURE,
        Reason.IDEMPOTENCY_CONFLICT,
        Reason.TOO_OLD,
    }
)
"""Refusals that are not remembered: the id may be sent again, with the same body only."""
