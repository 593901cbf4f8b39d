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
        self.highest = 0
        """No counter is above it."""
        self._entries, self._prefixes = report.lines[Invariant.I2], report.lines[Invariant.I1]
        self._availables = report.lines[Invariant.I6]

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
        self._entries.checked += 1
        self._prefixes.checked += 1
        if len(legs) < 2:
            self._report.fail(Invariant.I2, place, "legs of the entry", "at least 2", len(legs))
        net: dict[str, int] = {}
        touched: dict[str, Account] = {}
        for account_id, side, amount_minor, currency in legs:
            account = touched.get(account_id) or self._account(account_id, currency)
            touched[account_id] = account
            if amount_minor < 1 or account.currency != currency:
                expected, found = f"a positive amount in {account.currency}", f"{amount_minor} {currency}"
                self._report.fail(Invariant.I2, place, f"leg of {account_id}", expected, found)
            if side == "debit":
                account.debits += amount_minor
                net[currency] = net.get(currency, 0) + amount_minor
            else:
                account.credits += amount_minor
                net[currency] = net.get(currency, 0) - amount_minor
        for currency, excess in net.items():
            self._add(place, currency, excess)
        for account_id, account in touched.items():
            account.seq = place.seq or 0
            self.highest = max(self.highest, account.debits, account.credits)
            self._check_available(place, account_id, account)

    def _account(self, account_id: str, currency: str) -> Account:
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = Account(currency)
        return account

    def _add(self, place: Place, currency: str, excess: int) -> None:
        """Add what debits exceed credits by; all accounts of a currency together have none."""
        if excess:
            self._report.fail(Invariant.I2, place, f"entry in {currency}, debits - credits", 0, excess)
            self._sums[currency] += excess
            self._report.fail(
                Invariant.I1, place, f"all accounts in {currency}, debits - credits", 0, self._sums[currency]
            )

    def _check_available(self, place: Place, account_id: str, account: Account) -> None:
        if account.terms is None:
            if not account_id.startswith(SYSTEM):
                self._report.fail(Invariant.I3, place, f"leg of {account_id}", "an account that was opened", "none")
            return
        self._availables.checked += 1
        if account.available < 0:
            self._report.fail(Invariant.I6, place, f"available of {account_id}", "0 or more", account.available)
