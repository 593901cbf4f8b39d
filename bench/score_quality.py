"""How well the surprise score separates fraud from normal payments, on a labelled stream of *simulated* card payments.

    python bench/score_quality.py STREAM.csv.gz

The stream has the columns ``ts_s, account, amount, fraud`` in time order (from the open Sparkov generator). Every
payment is accepted and learned from, frauds too, as with the default bundle, which only reports. The score's constants
were tuned on the even accounts, so the figures are those of the odd ones.
"""

import csv
import gzip
import sys
from decimal import Decimal
from pathlib import Path

from engine.book import Account
from engine.evolve import learn
from engine.scoring import score
from schemas.events import AccountTerms


def scored(path: Path) -> list[tuple[int, int]]:
    """Return ``(score, fraud)`` of every payment of an odd account."""
    accounts: dict[int, Account] = {}
    found = []
    with gzip.open(path, "rt", encoding="ascii") as stream:
        for row in csv.DictReader(stream):
            number = int(row["account"])
            if number % 2 == 0:
                continue
            account = accounts.setdefault(number, new_account(number))
            at = int(row["ts_s"]) * 1000
            surprise = score(account, max(1, int(Decimal(row["amount"]) * 100)), at)
            learn(account, surprise.profile, at)
            found.append((surprise.total, int(row["fraud"])))
    return found


def new_account(number: int) -> Account:
    """Return an account that has paid nothing yet."""
    terms = AccountTerms(
        account_id=f"card-{number}",
        currency="USD",
        normal_side="credit",
        status="open",
        tier="standard",
        floor_minor=0,
        attributes={},
    )
    return Account(terms)


def average_precision(found: list[tuple[int, int]]) -> float:
    """Return the mean precision over all frauds, equal scores taken together."""
    by_score: dict[int, list[int]] = {}
    for total, fraud in found:
        by_score.setdefault(total, []).append(fraud)
    seen = caught = 0
    summed = 0.0
    for total in sorted(by_score, reverse=True):
        seen += len(by_score[total])
        caught += sum(by_score[total])
        summed += sum(by_score[total]) * caught / seen
    return summed / caught


def main() -> None:
    """Print the figures."""
    found = scored(Path(sys.argv[1]))
    frauds = sum(fraud for _, fraud in found)
    alerts = sorted(found, key=lambda each: -each[0])[: len(found) // 100]
    caught = sum(fraud for _, fraud in alerts)
    print(f"simulated card payments of odd accounts: {len(found):,}, of which fraud: {frauds:,}")
    print(f"average precision: {average_precision(found):.3f} (random order: {frauds / len(found):.3f})")
    print(f"alerting on the 1 % highest scores: recall {caught / frauds:.1%}, precision {caught / len(alerts):.1%}")
    for threshold in (300, 500, 700):
        normal = [total for total, fraud in found if not fraud]
        share = sum(total >= threshold for total in normal) / len(normal)
        recall = sum(total >= threshold for total, fraud in found if fraud) / frauds
        print(f"score >= {threshold}: {recall:.1%} of the frauds, {share:.2%} of the normal payments")


if __name__ == "__main__":
    main()
