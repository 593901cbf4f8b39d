"""How outcomes look: for ``send`` and ``outcome``."""

from collections.abc import Iterable
from typing import Final

from ledgerline.cli.shared import Cell, Table, echo, money
from schemas.outcomes import Outcome, Status

COLOURS: Final[dict[Status, str]] = {"accepted": "green", "declined": "yellow", "rejected": "red"}


def print_outcomes(outcomes: Iterable[Outcome]) -> None:
    """One line each, and below the table a sentence for each refusal."""
    shown = Table(
        "status", "type", "account", "amount", "balance", "available", "", "transaction", "request", "reason",
        right=frozenset({"amount", "balance", "available"}),
    )  # fmt: skip
    refusals = []
    for outcome in outcomes:
        shown.add(
            Cell(outcome.status + (" (replayed)" if outcome.replayed else ""), COLOURS[outcome.status]),
            outcome.type or "",
            outcome.account_id or "",
            money(outcome.amount_minor, outcome.currency),
            money(outcome.balance_minor, outcome.currency),
            money(outcome.available_minor, outcome.currency),
            outcome.currency or "",
            outcome.transaction,
            outcome.request_id or "",
            outcome.reason or "",
        )
        if outcome.detail is not None:
            refusals.append(outcome)
    shown.show()
    for outcome in refusals:
        echo(f"{outcome.transaction}: {outcome.detail}")
        if not outcome.binding:
            echo("  not binding: the id may have had its effect already; send only the same request again")
