"""What the shell looked up for one input before it is decided."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """``original`` is the outcome body of the event that ``engine.decide.needs`` named; ``None`` if it named none."""

    original: bytes | None = None


NO_EVIDENCE = Evidence()
