"""What the demo tells at its end: outcomes, surprising payments, latencies, throughput, the kill, the proof."""

from typing import Any

import asyncpg
import orjson
from rich.console import Console
from rich.table import Table

from ledgerline.demo.killed import Killed
from ledgerline.demo.ledger import DemoLedger
from ledgerline.demo.observer import Seen
from ledgerline.demo.screen import latency_line, outcomes_table
from schemas.currencies import format_amount
from schemas.outcomes import parse_transaction_id
from streams.kafka import SESSION_TIMEOUT_MS


def print_outcomes(console: Console, seen: Seen) -> None:
    """Print the outcomes by status and reason."""
    console.rule("[bold]Outcomes")
    console.print(outcomes_table(seen))


async def print_scores(console: Console, ledger: DemoLedger, seen: Seen) -> None:
    """Print the five payments with the highest score, with the parts that make it."""
    connection = await asyncpg.connect(ledger.dsn)
    try:
        table = Table(title="The five highest scores", title_justify="left", header_style="bold")
        for name in ("score", "transaction", "account", "amount"):
            table.add_column(name, justify="left" if name == "account" else "right", no_wrap=True)
        table.add_column("why")
        for score, transaction in sorted(seen.top_scores, reverse=True):
            row = await connection.fetchrow(
                "SELECT outcome, explanation FROM ledgerline.decisions WHERE partition = $1 AND seq = $2",
                *parse_transaction_id(transaction),
            )
            assert row is not None, f"{transaction} has an outcome but no row in decisions"
            outcome, explanation = orjson.loads(row["outcome"]), orjson.loads(row["explanation"])
            amount = format_amount(outcome["amount_minor"], outcome["currency"])
            table.add_row(str(score), transaction, outcome["account_id"], amount, score_parts(explanation))
        console.print(table)
    finally:
        await connection.close()


def score_parts(explanation: dict[str, Any]) -> str:
    """Return the parts of a score, the greatest first."""
    parts: dict[str, int] = explanation["score"]["parts"]
    return ", ".join(f"{name} {value}" for name, value in sorted(parts.items(), key=lambda part: -part[1]))


def print_speed(console: Console, seen: Seen, played: int, elapsed_s: float) -> None:
    """Print throughput and latencies of the payments."""
    console.rule("[bold]Speed")
    console.print(
        f"{played:,} payments sent, decided, posted in {elapsed_s:.1f} s: {played / elapsed_s:,.0f}/s on average, with"
        " two workers, sink, brokers, database and sender on this one machine"
    )
    console.print(
        f"latency, from the broker's time of a request to that of its outcome: {latency_line(seen.latencies_ms)}"
    )


def print_takeover(console: Console, killed: Killed, resumed_ms: dict[int, int]) -> None:
    """Print how long the partitions of the killed worker were without answers."""
    if resumed_ms:
        waited_s = (max(resumed_ms.values()) - killed.at_ms) / 1000
        console.print(
            f"SIGKILL of {killed.name}: the last of its {len(killed.partitions)} partitions answered again after"
            f" {waited_s:.1f} s (the consumer group gives them away after {SESSION_TIMEOUT_MS / 1000:.0f} s)"
        )
