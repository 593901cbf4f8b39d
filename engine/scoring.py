"""The surprise score of a payment, 0 to 1000: how unlike the account's own habits its amount, pace and hour of day are.

Three parts add up to the total, each 0 up to a most; an account's first payments score low, because little is known of
it. Integers only; logarithms are in units of 1/1024 (engine/fixed.py). The constants were tuned on the even accounts of
a simulated, labelled stream of card payments; ``bench/score_quality.py`` measures the separation on the odd ones.
"""

from typing import Final

from msgspec import Struct

from engine.book import Account
from engine.fixed import ONE, decayed, log2
from schemas.bounds import HOUR_MS
from schemas.config import MAX_SCORE
from schemas.events import Profile

MOST_AMOUNT: Final = 250
MOST_VELOCITY: Final = 500
MOST_HOUR: Final = 250

WARM_COUNT: Final = 16
"""An account with this many accepted payments is fully scored; before that the parts grow with the count."""

MEMORY_COUNT: Final = 64
"""Running means weigh a new payment 1/count, and at least 1/64."""

HALF_LIFE_MS: Final = 48 * HOUR_MS
"""The pace counts an amount fully when it is paid and half as much 48 hours later."""

LEAST_DEVIATION: Final = ONE
"""Deviations below one doubling count as one: an account that always pays the same sum may pay another one."""

_NEAR: Final = [bytes(((hour - 1) % 24, hour, (hour + 1) % 24)) for hour in range(24)]

USUAL_SHARE: Final = 5
"""An hour of day near which at least a fifth of an account's payments were made does not surprise."""


class FirstValues(Struct, frozen=True, gc=False):
    """What the score of an account's first payment used, for its explanation."""

    payments: int
    log_amount: int
    hour: int


class Values(Struct, frozen=True, gc=False):
    """What the score of a payment used, for its explanation."""

    payments: int
    log_amount: int
    log_mean: int
    log_deviation: int
    spent_minor: int
    pace: int
    pace_mean: int
    pace_deviation: int
    hour: int
    payments_near_hour: int
    payments_known: int


class Score(Struct, frozen=True, gc=False):
    """The surprise of one payment, what explains it, and what the account's habits become with it."""

    total: int
    amount: int
    velocity: int
    hour: int
    values: Values | FirstValues
    profile: Profile


def score(account: Account, amount_minor: int, at: int) -> Score:
    """Return how surprising it is that *account* pays *amount_minor* at *at*."""
    log_amount = log2(amount_minor)
    hour = at // HOUR_MS % 24
    habits = account.habits
    if habits is None:
        return _first(amount_minor, log_amount, hour)
    payments, log_mean, log_deviation = habits.count, habits.log_mean, habits.log_deviation
    pace_mean, pace_deviation = habits.pace_mean, habits.pace_deviation
    spent_minor = decayed(habits.spent_minor, at - account.paid_at, HALF_LIFE_MS) + amount_minor
    pace = log2(spent_minor)
    near, known = _nearby(account.hours, hour), len(account.hours)
    warmth = min(payments, WARM_COUNT)
    amount = _excess(log_amount, log_mean, log_deviation, MOST_AMOUNT, 2) * warmth // WARM_COUNT
    velocity = _excess(pace, pace_mean, pace_deviation, MOST_VELOCITY, 3) * warmth // WARM_COUNT
    odd_hour = max(0, MOST_HOUR - MOST_HOUR * USUAL_SHARE * near // known) * warmth // WARM_COUNT
    values = Values(
        payments=payments,
        log_amount=log_amount,
        log_mean=log_mean,
        log_deviation=log_deviation,
        spent_minor=spent_minor,
        pace=pace,
        pace_mean=pace_mean,
        pace_deviation=pace_deviation,
        hour=hour,
        payments_near_hour=near,
        payments_known=known,
    )
    total = min(MAX_SCORE, amount + velocity + odd_hour)
    return Score(total, amount, velocity, odd_hour, values, _learned(habits, log_amount, spent_minor, pace, hour))


def _first(amount_minor: int, log_amount: int, hour: int) -> Score:
    """Nothing is known about the account: nothing surprises."""
    profile = Profile(
        count=1,
        log_mean=log_amount,
        log_deviation=0,
        spent_minor=amount_minor,
        pace_mean=log_amount,
        pace_deviation=0,
        hour=hour,
    )
    return Score(0, 0, 0, 0, FirstValues(0, log_amount, hour), profile)


def _excess(value: int, mean: int, deviation: int, most: int, span: int) -> int:
    """Return 0 up to one deviation above the mean, *most* from *span* deviations further on, straight in between."""
    deviations = (value - mean) * ONE // max(deviation, LEAST_DEVIATION)
    if deviations <= ONE:
        return 0
    return min(most, most * (deviations - ONE) // (span * ONE))


def _nearby(hours: bytes, hour: int) -> int:
    """Return how many of *hours* are within one hour of *hour*, around the clock."""
    return len(hours) - len(hours.translate(None, _NEAR[hour]))  # without those: quicker than to count each of three


def _learned(habits: Profile, log_amount: int, spent_minor: int, pace: int, hour: int) -> Profile:
    payments, log_mean, log_deviation = habits.count, habits.log_mean, habits.log_deviation
    pace_mean, pace_deviation = habits.pace_mean, habits.pace_deviation
    weight = min(payments + 1, MEMORY_COUNT)
    surprise, hurry = log_amount - log_mean, pace - pace_mean
    return Profile(
        count=payments + 1,
        log_mean=log_mean + surprise // weight,
        log_deviation=log_deviation + (abs(surprise) - log_deviation) // weight,
        spent_minor=spent_minor,
        pace_mean=pace_mean + hurry // weight,
        pace_deviation=pace_deviation + (abs(hurry) - pace_deviation) // weight,
        hour=hour,
    )
