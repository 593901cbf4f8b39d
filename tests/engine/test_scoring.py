"""What surprises and what does not; how well it separates is measured by bench/score_quality.py."""

from engine.book import Account
from engine.evolve import learn
from engine.scoring import MOST_AMOUNT, MOST_HOUR, MOST_VELOCITY, Score, Values, score
from schemas.config import MAX_SCORE
from schemas.events import AccountTerms
from tests.engine.desk import NOON

HOUR = 3_600_000


class Payer:
    """An account that pays and learns."""

    def __init__(self) -> None:
        terms = AccountTerms(
            account_id="alice",
            currency="EUR",
            normal_side="credit",
            status="open",
            tier="standard",
            floor_minor=0,
            attributes={},
        )
        self.account = Account(terms)
        self.at = NOON

    def pay(self, amount_minor: int, after_ms: int = 24 * HOUR) -> Score:
        self.at += after_ms
        found = self.look(amount_minor)
        learn(self.account, found.profile, self.at)
        return found

    def look(self, amount_minor: int, after_ms: int = 0) -> Score:
        return score(self.account, amount_minor, self.at + after_ms)

    @classmethod
    def regular(cls) -> "Payer":
        payer = cls()
        for number in range(100):
            payer.pay(1_000 + number * 37 % 900, (24 + number % 2) * HOUR if number % 10 == 0 else 24 * HOUR)
        return payer


def test_the_first_payment_does_not_surprise_whatever_it_is() -> None:
    assert Payer().look(10**15).total == 0


def test_early_payments_do_not_alarm() -> None:
    payer = Payer()
    payer.pay(100)
    assert max(payer.pay(10_000_000, after_ms=HOUR).total for _ in range(3)) < 200


def test_habits_do_not_surprise() -> None:
    payer = Payer.regular()
    assert payer.look(1_400, 24 * HOUR).total == 0


def test_a_much_higher_amount_surprises_and_a_lower_one_does_not() -> None:
    payer = Payer.regular()
    assert payer.look(1_000_000, 24 * HOUR).amount == MOST_AMOUNT
    assert payer.look(1, 24 * HOUR).amount == 0
    assert payer.look(3_000, 24 * HOUR).amount < payer.look(8_000, 24 * HOUR).amount


def test_a_burst_of_usual_amounts_surprises_by_its_pace() -> None:
    payer = Payer.regular()
    first = payer.pay(1_400)
    for _ in range(30):
        last = payer.pay(1_400, after_ms=60_000)
    assert (first.velocity, last.amount) == (0, 0)
    assert last.velocity > MOST_VELOCITY // 4


def test_an_odd_hour_surprises_around_the_clock() -> None:
    payer = Payer.regular()
    usual = payer.at // HOUR % 24
    parts = {(usual + shift) % 24: payer.look(1_400, (24 + shift) * HOUR).hour for shift in range(24)}
    assert parts[usual] == 0
    assert parts[(usual + 12) % 24] == MOST_HOUR
    assert parts[(usual + 1) % 24] == 0


def test_a_payment_is_near_those_of_its_own_hour_and_the_two_next_to_it() -> None:
    for hour in range(24):
        payer = Payer()
        payer.at = NOON // (24 * HOUR) * 24 * HOUR
        payer.pay(100, after_ms=hour * HOUR)
        near = set()
        for shift in range(24):
            values = payer.look(100, shift * HOUR).values
            assert isinstance(values, Values)
            near |= {shift} if values.payments_near_hour else set()
        assert near == {0, 1, 23}


def test_the_parts_add_up_to_a_total_within_bounds() -> None:
    payer = Payer.regular()
    found = payer.look(10**15, 12 * HOUR)
    assert found.total == found.amount + found.velocity + found.hour == MAX_SCORE
    assert MOST_AMOUNT + MOST_VELOCITY + MOST_HOUR == MAX_SCORE


def test_the_profile_stays_within_its_bounds_under_extremes() -> None:
    payer = Payer()
    for number in range(200):
        payer.pay(1 if number % 2 else 10**15, after_ms=0 if number % 3 else 10**12)
    assert payer.account.habits is not None
    assert payer.account.habits.count == 200
