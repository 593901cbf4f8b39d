"""Explanations as ``decide`` writes them; what each key means stands in engine/explanations.py.

Declared here and not in ``engine``: mypyc, with which ``engine`` may be compiled, drops the options of a struct, and
without ``omit_defaults`` an explanation has other bytes.
"""

from collections.abc import Sequence

from msgspec import Struct


class ExplainedCheck(Struct, frozen=True, gc=False):
    """The check that refused."""

    number: int
    name: str


class ExplainedFunds(Struct, frozen=True, gc=False):
    """What was needed and what was there, before the decision."""

    needed_minor: int
    available_minor: int | None


class ExplainedNearDuplicate(Struct, frozen=True, gc=False):
    """The earlier transfer that a transfer is like, and the rule of the bundle."""

    of: str
    age_ms: int
    window_s: int
    action: str


class ScoreParts(Struct, frozen=True, gc=False):
    """The parts of a score, or the most of each."""

    amount: int
    velocity: int
    hour: int


class ExplainedScore(Struct, frozen=True, gc=False):
    """A score; ``values`` are those that it used."""

    total: int
    decline_at: int | None
    parts: ScoreParts
    most: ScoreParts
    values: Struct


class Explanation(Struct, frozen=True, gc=False, omit_defaults=True):
    """The whole, keys in this order; what does not apply is absent. ``limits`` as in the outcome."""

    decision: str
    ruleset: str
    replayed: bool = False
    original: str | None = None
    reason: str | None = None
    detail: str | None = None
    check: ExplainedCheck | None = None
    defect: str | None = None
    tier: str | None = None
    funds: ExplainedFunds | None = None
    near_duplicate: ExplainedNearDuplicate | None = None
    score: ExplainedScore | None = None
    limits: Sequence[Struct] | None = None
