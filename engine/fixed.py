"""Logarithms and decay in integers: bit-reproducible on every platform, so that a backtest gives the recorded scores.

Everything is in units of 1/1024 (``ONE``). The tables are computed at import by integer operations only.
"""

from math import isqrt
from typing import Final

ONE: Final = 1024
_BITS: Final = 10
_Q: Final = 60


def _log_table() -> tuple[int, ...]:
    """Return floor(1024 * log2(1 + i/1024)) for i in 0..1023, by squaring: each step gives one binary digit."""
    table = []
    for i in range(ONE):
        mantissa, digits = (ONE + i) << (_Q - _BITS), 0
        for _ in range(_BITS):
            mantissa = mantissa * mantissa >> _Q
            digits <<= 1
            if mantissa >> (_Q + 1):
                mantissa >>= 1
                digits |= 1
        table.append(digits)
    return tuple(table)


def _decay_table() -> tuple[int, ...]:
    """Return 2^(-i/1024) for i in 0..1023 in units of 2^-60, by ten square roots and repeated multiplication."""
    step = 1 << (_Q - 1)
    for _ in range(_BITS):
        step = isqrt(step << _Q)
    table = [1 << _Q]
    for _ in range(ONE - 1):
        table.append(table[-1] * step >> _Q)
    return tuple(table)


_LOG: Final = _log_table()
_DECAY: Final = _decay_table()


def log2(value: int) -> int:
    """Return log2 of *value* >= 1 in units of 1/1024, rounded down; exact to 3/1024."""
    assert value >= 1, f"log2: expected a value >= 1, got {value}"
    exponent = value.bit_length() - 1
    mantissa = value << _BITS >> exponent
    return (exponent << _BITS) + _LOG[mantissa - ONE]


def decayed(value: int, elapsed_ms: int, half_life_ms: int) -> int:
    """Return *value* after *elapsed_ms*: halved for every *half_life_ms*, rounded down."""
    halvings = (elapsed_ms << _BITS) // half_life_ms
    whole = halvings >> _BITS
    return value * _DECAY[halvings & (ONE - 1)] >> _Q >> whole if whole < value.bit_length() else 0
