"""Config records: immutable versions in the ordered log ``config``.

A *bundle* holds tiers with their limits, and risk settings. It activates as a whole, by an event of each journal.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from schemas.bounds import VERSION_PATTERN
from schemas.codec import Record, Version1, decode_object, malformed
from schemas.requests import AmountMinor, Currency, Word

MAX_CONFIG_BYTES: Final = 1024 * 1024
DEFAULT_TIER: Final = "standard"
MAX_SCORE: Final = 1000

LimitedType = Literal["deposit", "withdraw", "transfer"]


class Limit(Record):
    """Limits of a tier on one request type in one currency. The amount counts, fees do not; days are UTC."""

    type: LimitedType
    currency: Currency
    per_transaction_minor: AmountMinor | None = None
    daily_sum_minor: AmountMinor | None = None
    daily_count: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.per_transaction_minor is None and self.daily_sum_minor is None and self.daily_count is None:
            raise ValueError("expected per_transaction_minor, daily_sum_minor or daily_count")
        return self


class Tier(Record):
    """The limits of the accounts of a tier; a type and currency without an entry is not limited."""

    limits: Annotated[tuple[Limit, ...], Field(strict=False, max_length=1000)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        pairs = [(limit.type, limit.currency) for limit in self.limits]
        seen: set[tuple[str, str]] = set()
        for pair in pairs:
            if pair in seen:
                raise ValueError(f"expected one entry for {pair[0]} in {pair[1]}")
            seen.add(pair)
        return self

    @cached_property
    def by_type_and_currency(self) -> Mapping[tuple[LimitedType, str], Limit]:
        """The entries as they are looked up, once per request."""
        return {(limit.type, limit.currency): limit for limit in self.limits}


class NearDuplicates(Record):
    """What to do with a transfer of the same payer, payee, amount and currency within the window under another id."""

    window_s: Annotated[int, Field(ge=1, le=86_400)]
    action: Literal["pass", "tag", "decline"]


class Scoring(Record):
    """The surprise score, 0 to 1000, is always reported; at or above ``decline_at`` it declines."""

    decline_at: Annotated[int, Field(ge=1, le=MAX_SCORE)] | None = None


class Bundle(Record):
    """One version of tiers, limits and risk settings. ``tiers`` must name ``standard``, the default."""

    v: Version1
    kind: Literal["bundle"]
    version: Annotated[str, Field(pattern=VERSION_PATTERN)]
    description: Annotated[str, Field(max_length=1000)] | None = None
    tiers: Annotated[dict[Word, Tier], Field(min_length=1, max_length=100)]
    near_duplicates: NearDuplicates
    scoring: Scoring

    @model_validator(mode="after")
    def _has_default_tier(self) -> Self:
        if DEFAULT_TIER not in self.tiers:
            raise ValueError(f"expected tiers to hold {DEFAULT_TIER!r}")
        return self


def decode_bundle(value: bytes) -> Bundle:
    """Return the bundle in *value*; raises :class:`schemas.codec.Malformed` naming field, expectation and value."""
    tree = decode_object(value, max_bytes=MAX_CONFIG_BYTES)
    try:
        return Bundle.model_validate(tree)
    except ValidationError as error:
        raise malformed(error) from None


DEFAULT_BUNDLE: Final = Bundle.model_validate(
    {
        "v": 1,
        "kind": "bundle",
        "version": "default-1",
        "description": "Published by init --dev: for development and demos, not for money.",
        "tiers": {
            DEFAULT_TIER: {
                "limits": tuple(
                    {
                        "type": kind,
                        "currency": currency,
                        "per_transaction_minor": 1_000_000,
                        "daily_sum_minor": 5_000_000,
                        "daily_count": 1_000,
                    }
                    for kind in ("transfer", "withdraw")
                    for currency in ("EUR", "GBP", "USD")
                )
            },
            "unlimited": {"limits": ()},
        },
        "near_duplicates": {"window_s": 60, "action": "tag"},
        "scoring": {},
    }
)
