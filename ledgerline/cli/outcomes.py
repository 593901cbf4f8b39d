"""How outcomes look: for ``send`` and ``outcome``."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.markup import escape

from ledgerline.cli.shared import money, table
from schemas.outcomes import Outcome, Status

COLOURS: Final[dict[Status, str]] = {"accepted": "green", "declined": "yellow", "rejected": "red"}


def print_outcomes(outcomes: Iterable[Outcome], out: Console) -> None:
    """One line each, and below the table a sentence for each refusal."""
    shown = table(
        "status", "type", "account", "amount", "balance", "available", "", "transaction", "request", "reason",
        right=frozenset({"amount", "balance", "available"}),
    )  # fmt: skip
    refusals = []
    for outcome in outcomes:
        shown.add_row(
            f"[{COLOURS[outcome.status]}]{outcome.status}[/]{' (replayed)' if outcome.replayed else ''}",
            outcome.type or "",
            escape(outcome.account_id or ""),
            money(outcome.amount_minor, outcome.currency),
            money(outcome.balance_minor, outcome.currency),
            money(outcome.available_minor, outcome.currency),
            outcome.currency or "",
            outcome.transaction,
            escape(outcome.request_id or ""),
            outcome.reason or "",
        )
        if outcome.detail is not None:
            refusals.append(outcome)
    out.print(shown)
    for outcome in refusals:
        out.print(f"{outcome.transaction}: {outcome.detail}", markup=False)
        if not outcome.binding:
            out.print(
                "  not binding: the id may have had its effect already; send only the same request again", markup=False
            )
