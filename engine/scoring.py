"""The surprise score of a payment, 0 to 1000: how unlike the account's own habits its amount, pace and hour of day are.

Three parts add up to the total, each 0 up to a most; an account's first payments score low, because little is known of
it. Integers only, in units of 1/1024 (engine/fixed.py); ``bench/score_quality.py`` measures the separation on labelled
data.
"""

from dataclasses import dataclass
from typing import Final

from engine.book import Account, Habits
from engine.fixed import ONE, decayed, log2
from schemas.bounds import HOUR_MS
from schemas.config import MAX_SCORE
from schemas.events import Profile

MOST_AMOUNT: Final = 500
MOST_VELOCITY: Final = 250
MOST_HOUR: Final = 250

WARM_COUNT: Final = 16
"""An account with this many accepted payments is fully scored; before that the parts grow with the count."""

MEMORY_COUNT: Final = 64
"""Running means weigh a new payment 1/count, and at least 1/64."""

HALF_LIFE_MS: Final = 12 * HOUR_MS
"""The pace counts a payment fully when it is made and half as much twelve hours later."""


@dataclass(frozen=True, slots=True)
class Score:
    """The surprise of one payment and what explains it; ``profile`` is what the account's habits become with it."""

    total: int
    amount: int
    velocity: int
    hour: int
    values: dict[str, int]
    profile: Profile


def score(account: Account, amount_minor: int, at: int) -> Score:
    """Return how surprising it is that *account* pays *amount_minor* at *at*."""
    habits = account.habits
    log_amount = log2(amount_minor)
    hour = at // HOUR_MS % 24
    if habits is None:
        profile = Profile(count=1, log_mean=log_amount, log_deviation=0, rate=ONE, rate_mean=ONE, hour=hour)
        return Score(0, 0, 0, 0, {"count": 0, "log_amount": log_amount, "hour": hour}, profile)
    rate = decayed(habits.rate, at - habits.at, HALF_LIFE_MS) + ONE
    near, known = _nearby(account.hours, hour), len(account.hours)
    warmth = min(habits.payments, WARM_COUNT)
    amount = _amount_part(habits, log_amount) * warmth // WARM_COUNT
    velocity = _velocity_part(habits, rate) * warmth // WARM_COUNT
    odd_hour = _hour_part(near, known) * warmth // WARM_COUNT
    values = {
        "count": habits.payments,
        "log_amount": log_amount,
        "log_mean": habits.log_mean,
        "log_deviation": habits.log_deviation,
        "rate": rate,
        "rate_mean": habits.rate_mean,
        "hour": hour,
        "payments_near_hour": near,
        "payments_known": known,
    }
    total = min(MAX_SCORE, amount + velocity + odd_hour)
    return Score(total, amount, velocity, odd_hour, values, _learned(habits, log_amount, rate, hour))


def _amount_part(habits: Habits, log_amount: int) -> int:
    """Above the mean by one deviation (at least half a doubling) counts nothing; four more reach the most."""
    deviation = max(habits.log_deviation, ONE // 2)
    excess = (log_amount - habits.log_mean) * ONE // deviation - ONE
    return max(0, min(MOST_AMOUNT, MOST_AMOUNT * excess // (4 * ONE)))


def _velocity_part(habits: Habits, rate: int) -> int:
    """The pace as a multiple of its mean: the mean itself counts nothing, four doublings reach the most."""
    excess = log2(rate) - log2(max(habits.rate_mean, ONE))
    return max(0, min(MOST_VELOCITY, MOST_VELOCITY * excess // (4 * ONE)))


def _hour_part(near: int, known: int) -> int:
    """Of the known payments, the share within an hour of the clock of this one: an eighth and more counts nothing."""
    return max(0, MOST_HOUR - MOST_HOUR * 8 * near // max(known, 1))


def _nearby(hours: bytes, hour: int) -> int:
    """Return how many of *hours* are within one hour of *hour*, around the clock."""
    return hours.count(hour) + hours.count((hour + 1) % 24) + hours.count((hour - 1) % 24)


def _learned(habits: Habits, log_amount: int, rate: int, hour: int) -> Profile:
    count = habits.payments + 1
    weight = min(count, MEMORY_COUNT)
    surprise = log_amount - habits.log_mean
    return Profile(
        count=count,
        log_mean=habits.log_mean + surprise // weight,
        log_deviation=habits.log_deviation + (abs(surprise) - habits.log_deviation) // weight,
        rate=rate,
        rate_mean=habits.rate_mean + (rate - habits.rate_mean) // weight,
        hour=hour,
    )
