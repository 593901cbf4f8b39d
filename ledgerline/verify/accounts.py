"""The accounts of one partition, added up from the postings in the journal and nothing else (I1, I2, I5, I6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ledgerline.verify.report import Invariant, Place, Report
from schemas.events import AccountTerms, Leg

SYSTEM: Final = "sys:"


@dataclass(slots=True)
class Account:
    """Sums of postings. *terms* is None for system accounts, which have no bounds. Nothing is held in this version."""

    currency: str
    terms: AccountTerms | None = None
    debits: int = 0
    credits: int = 0
    held: int = 0
    seq: int = 0
    """Of the last event that touched the account."""

    @property
    def balance(self) -> int:
        """In minor units, positive on the account's normal side; system accounts are credit-normal."""
        net = self.credits - self.debits
        return -net if self.terms is not None and self.terms.normal_side == "debit" else net

    @property
    def available(self) -> int:
        """What may leave, in minor units: down to the floor, or for a debit-normal account up to the ceiling."""
        if self.terms is None:
            return self.balance - self.held
        if self.terms.normal_side == "debit":
            return (self.terms.ceiling_minor or 0) - self.balance - self.held
        return self.balance - self.held - self.terms.floor_minor


class Accounts:
    """Postings of one partition, added up in order. Mutable, one owner."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._accounts: dict[str, Account] = {}
        self._sums: dict[str, int] = defaultdict(int)  # per currency: debits minus credits of all accounts
        self._known_sums: dict[str, int] = {}  # what was reported, so that one bad entry is one failure

    def get(self, account_id: str) -> Account | None:
        """Return the account as of the last event, or None."""
        return self._accounts.get(account_id)

    def copy(self) -> dict[str, Account]:
        """Return every account as of now."""
        return {account_id: replace(account) for account_id, account in self._accounts.items()}

    def set_terms(self, place: Place, terms: AccountTerms) -> None:
        """Create the account, or replace its terms, and check what is available behind it."""
        account = self._accounts.setdefault(terms.account_id, Account(terms.currency))
        account.terms, account.seq = terms, place.seq or 0
        self._check_available(place, terms.account_id, account)

    def post(self, place: Place, legs: Sequence[Leg]) -> None:
        """Check the entry by itself (I2), add it, and check every prefix promise behind it (I1, I6)."""
        self._check_entry(place, legs)
        for account_id, side, amount_minor, currency in legs:
            account = self._accounts.setdefault(account_id, Account(currency))
            account.seq = place.seq or 0
            if side == "debit":
                account.debits += amount_minor
                self._sums[currency] += amount_minor
            else:
                account.credits += amount_minor
                self._sums[currency] -= amount_minor
        self._check_sums(place, legs)
        for account_id in {leg[0] for leg in legs}:
            self._check_available(place, account_id, self._accounts[account_id])

    def _check_entry(self, place: Place, legs: Sequence[Leg]) -> None:
        self._report.check(Invariant.I2)
        net: dict[str, int] = defaultdict(int)
        for account_id, side, amount_minor, currency in legs:
            net[currency] += amount_minor if side == "debit" else -amount_minor
            if amount_minor < 1:
                self._report.fail(Invariant.I2, place, f"leg of {account_id}", "a positive integer", amount_minor)
            known = self._accounts.get(account_id)
            if known is not None and known.currency != currency:
                self._report.fail(Invariant.I2, place, f"leg of {account_id}", known.currency, currency)
        if len(legs) < 2:
            self._report.fail(Invariant.I2, place, "legs of the entry", "at least 2", len(legs))
        for currency, excess in net.items():
            if excess:
                self._report.fail(Invariant.I2, place, f"entry in {currency}, debits - credits", 0, excess)

    def _check_sums(self, place: Place, legs: Sequence[Leg]) -> None:
        for currency in {leg[3] for leg in legs}:
            self._report.check(Invariant.I1)
            found = self._sums[currency]
            if found != self._known_sums.get(currency, 0):
                self._report.fail(Invariant.I1, place, f"all accounts in {currency}, debits - credits", 0, found)
                self._known_sums[currency] = found

    def _check_available(self, place: Place, account_id: str, account: Account) -> None:
        if account.terms is None:
            if not account_id.startswith(SYSTEM):
                self._report.fail(Invariant.I3, place, f"leg of {account_id}", "an account that was opened", "none")
            return
        self._report.check(Invariant.I6)
        if account.available < 0:
            self._report.fail(Invariant.I6, place, f"available of {account_id}", "0 or more", account.available)
