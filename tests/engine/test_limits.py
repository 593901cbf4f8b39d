"""Which limit a request stands under; how limits count stands in tests/scenarios/limits.txt."""

from engine.book import Account, DayUsage
from engine.limits import Standing, standing
from schemas.bounds import DAY_MS
from schemas.config import Tier
from schemas.events import AccountTerms

TIER = Tier.model_validate(
    {
        "limits": [
            {"type": kind, "currency": currency, "daily_count": count}
            for count, (kind, currency) in enumerate(
                [("transfer", "EUR"), ("transfer", "USD"), ("withdraw", "USD"), ("deposit", "EUR")], start=1
            )
        ]
    }
)


def account() -> Account:
    terms = AccountTerms(
        account_id="a", currency="USD", normal_side="credit", status="open", tier="t", floor_minor=0, attributes={}
    )
    return Account(terms)


def test_the_limit_is_that_of_type_and_currency() -> None:
    found = {
        (kind, currency): standing(account(), TIER, kind, currency, 0)
        for kind in ("deposit", "withdraw", "transfer")
        for currency in ("EUR", "USD", "GBP")
    }
    counts = {pair: now.limit.daily_count for pair, now in found.items() if now is not None}
    assert counts == {("transfer", "EUR"): 1, ("transfer", "USD"): 2, ("withdraw", "USD"): 3, ("deposit", "EUR"): 4}


def test_what_was_used_is_that_of_the_type_on_the_day() -> None:
    payer = account()
    payer.usage["transfer"] = used = DayUsage()
    used.add(7, 500)
    used.add(7, 30)
    limit = TIER.limits[1]
    assert standing(payer, TIER, "transfer", "USD", 8 * DAY_MS - 1) == Standing(limit, 530, 2)
    assert standing(payer, TIER, "transfer", "USD", 8 * DAY_MS) == Standing(limit, 0, 0)
    assert standing(payer, TIER, "withdraw", "USD", 7 * DAY_MS) == Standing(TIER.limits[2], 0, 0)
