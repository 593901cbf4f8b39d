"""What ``decide`` found out about one request, before it is written as event, outcome and explanation."""

from typing import Final

from msgspec import Struct

from engine.duplicates import Lookalike
from engine.limits import Standing
from engine.refusals import Refusal
from engine.scoring import Score
from schemas.events import AccountTerms, Leg, Payment, Profile, Usage
from schemas.outcomes import Status


class Effects(Struct, frozen=True, gc=False):
    """What an accepted request changes; each field is written in the event and applied by ``evolve``."""

    legs: tuple[Leg, ...] = ()
    account: AccountTerms | None = None
    usage: Usage | None = None
    payment: Payment | None = None
    profile: Profile | None = None


NO_EFFECTS: Final = Effects()


class Findings(Struct, gc=False):
    """What the checks saw on their way, up to the one that refused; mutable, filled by one decision."""

    tier: str | None = None
    available_minor: int | None = None
    needed_minor: int | None = None
    standing: Standing | None = None
    payment_digest: bytes | None = None
    lookalike: Lookalike | None = None
    lookalike_age_ms: int = 0
    rules: tuple[str, ...] = ()
    score: Score | None = None


class Ruling(Struct, frozen=True, gc=False):
    """The decision about one request; ``original`` is the seq that a replay repeats or a conflict names."""

    status: Status
    binding: bool
    refusal: Refusal | None
    effects: Effects
    findings: Findings
    original: int | None = None
    replayed: bool = False


def accepted(effects: Effects, findings: Findings) -> Ruling:
    """The request takes effect."""
    return Ruling(status="accepted", binding=True, refusal=None, effects=effects, findings=findings)


def declined(refusal: Refusal, findings: Findings) -> Ruling:
    """Checks 5 to 11 refused: nothing changes, and the answer is remembered."""
    return Ruling(status="declined", binding=True, refusal=refusal, effects=NO_EFFECTS, findings=findings)


def rejected(refusal: Refusal, original: int | None = None) -> Ruling:
    """Checks 1 to 4 refused: nothing changes, and nothing is remembered."""
    return Ruling(
        status="rejected", binding=False, refusal=refusal, effects=NO_EFFECTS, findings=Findings(), original=original
    )


def failed(refusal: Refusal, *, binding: bool) -> Ruling:
    """The engine itself failed: an ``internal_error``, remembered iff the request had passed check 4."""
    return Ruling(status="rejected", binding=binding, refusal=refusal, effects=NO_EFFECTS, findings=Findings())


def replayed(status: Status, refusal: Refusal | None, original: int) -> Ruling:
    """The request was answered by the event *original*: the same answer again, and nothing changes."""
    return Ruling(
        status=status,
        binding=True,
        refusal=refusal,
        effects=NO_EFFECTS,
        findings=Findings(),
        original=original,
        replayed=True,
    )
