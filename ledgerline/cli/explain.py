"""``explain``: why a decision came out as it did, from the journal alone."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, assert_never

import orjson
import typer
from msgspec import to_builtins

from engine.refusals import CHECKS
from ledgerline import journals
from ledgerline.cli.outcomes import COLOURS
from ledgerline.cli.shared import AsJson, Cell, Table, echo, fail, kafka_address, money, postgres_dsn, print_json, run
from ledgerline.errors import UnreachableError
from ledgerline.journals import NoSuchEvent, Told
from ledgerline.settings import load_settings
from schemas.events import Answer, ConfigPickup, Skip
from schemas.outcomes import Outcome, decode_outcome, parse_transaction_id
from schemas.records import RawRecord
from schemas.times import format_time

BAR: Final = 30
NOT_YET: Final = frozenset({3, 7})
"""Checks that the order reserves a place for and that this version does not make."""
REASONS: Final = "docs/requests.md#"


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(explain)


def explain(
    transaction: Annotated[str, typer.Argument(help="A transaction id, <partition>-<seq>, such as 3-128.")],
    as_json: AsJson = False,
) -> None:
    """Show everything about one decision: its request, checks, funds, limits, score, entry, and place in the journal.

    Exits with 1 if the journal does not hold it (yet).

    Example: ledgerline explain 3-128
    """
    try:
        parse_transaction_id(transaction)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="TRANSACTION") from None
    settings = load_settings()
    try:
        dsn: str | None = postgres_dsn(settings)
    except UnreachableError:  # it only shortens the search
        dsn = None
    try:
        told = run(journals.find(kafka_address(settings), settings.prefix, dsn, transaction))
    except NoSuchEvent as error:
        raise fail(str(error)) from None
    if as_json:
        print_json(_plain(told))
    else:
        _print(told)


def _print(told: Told) -> None:
    event = told.event
    match event:
        case Answer():
            assert told.outcome is not None and told.explanation is not None  # noqa: PT018 - both or none
            outcome, explanation = decode_outcome(told.outcome), orjson.loads(told.explanation)
            _print_decision(outcome, explanation)
            _print_checks(outcome, explanation)
            _print_funds(outcome, explanation)
            _print_limits(outcome)
            _print_near_duplicate(outcome, explanation)
            _print_score(explanation)
            _print_legs(event)
            _print_request(told.record, event)
        case Skip():
            echo(Cell("skipped", "yellow"), f"  {event.topic} offset {event.offset} had no effect: {event.reason}")
        case ConfigPickup():
            echo(Cell(f"config {event.verdict}", "cyan"), f"  version {event.version}, config offset {event.offset}")
            echo(f"  sha256 {event.sha256}" + (f"; {event.reason}" if event.reason else ""))
            echo(f"  picked up before the answer to {event.cause_topic} offset {event.cause_offset}")
        case _:
            assert_never(event)
    _heading("journal")
    echo(f"  event {told.transaction} at {format_time(event.at)}, block at offset {told.offset}")


def _print_decision(outcome: Outcome, explanation: dict[str, Any]) -> None:
    amount = f" {money(outcome.amount_minor, outcome.currency)} {outcome.currency}" if outcome.amount_minor else ""
    echo(
        Cell(outcome.status, COLOURS[outcome.status]),
        f"  {outcome.type or 'unreadable request'}{amount} of {outcome.account_id or 'no readable account'}"
        f", request {outcome.request_id or 'without a readable id'}",
    )
    if outcome.replayed:
        echo(f"  a replay: the request was sent again; first decided by {outcome.transaction}")
    if outcome.reason is not None:
        echo(f"  {outcome.reason}: {outcome.detail}")
        echo(f"  what it means and what to do: {REASONS}{outcome.reason}")
    if not outcome.binding:
        echo("  not binding: not remembered; the same request may be sent again")
    if "defect" in explanation:
        echo("  ", Cell("a defect of the engine: ", "red"), str(explanation["defect"]))
    tier = f", tier {explanation['tier']}" if "tier" in explanation else ""
    echo(f"  under ruleset {explanation['ruleset']}{tier}")


def _print_checks(outcome: Outcome, explanation: dict[str, Any]) -> None:
    """In their order, up to the one that refused. Replays and defects went another way."""
    if outcome.replayed or "defect" in explanation:
        return
    _heading("checks")
    refused = explanation.get("check", {}).get("number")
    for number, name in CHECKS.items():
        if number == refused:
            echo(f"  {number:>2} ", Cell("✗", "red"), f" {name}")
            return
        if number in NOT_YET:
            echo(f"  {number:>2} · {name}: not part of this version")
        else:
            echo(f"  {number:>2} ", Cell("✓", "green"), f" {name}")


def _print_funds(outcome: Outcome, explanation: dict[str, Any]) -> None:
    funds = explanation.get("funds")
    if funds is None and outcome.balance_minor is None:
        return
    _heading("funds")
    if funds is not None:
        needed, available = (
            money(funds["needed_minor"], outcome.currency),
            money(funds["available_minor"], outcome.currency),
        )
        echo(f"  needed {needed}, available before {available} {outcome.currency}")
    if outcome.balance_minor is not None:
        balance, left = money(outcome.balance_minor, outcome.currency), money(outcome.available_minor, outcome.currency)
        echo(f"  behind the decision: balance {balance}, available {left} {outcome.currency}")


def _print_limits(outcome: Outcome) -> None:
    if not outcome.limits:
        return
    _heading("limits, behind the decision")
    shown = Table("  limit", "used", "of", "remaining", right=frozenset({"used", "of", "remaining"}))
    for limit in outcome.limits:
        if limit.name == "daily_count":
            shown.add(f"  {limit.name}", str(limit.used), str(limit.limit), str(limit.remaining))
        else:
            amounts = (limit.used_minor, limit.limit_minor, limit.remaining_minor)
            shown.add(f"  {limit.name}", *(money(amount, outcome.currency) for amount in amounts))
    shown.show()


def _print_near_duplicate(outcome: Outcome, explanation: dict[str, Any]) -> None:
    near = explanation.get("near_duplicate")
    if near is not None:
        _heading("near-duplicate")
        amount = f"{money(outcome.amount_minor, outcome.currency)} {outcome.currency}"
        echo(f"  {near['of']} paid the same payee the same {amount} {near['age_ms'] / 1000:.1f} s earlier")
        echo(f"  within {near['window_s']} s the ruleset says: {near['action']}")


def _print_score(explanation: dict[str, Any]) -> None:
    score = explanation.get("score")
    if score is None:
        return
    limit = "reported only" if score["decline_at"] is None else f"declines from {score['decline_at']} on"
    _heading(f"score {score['total']} of 1000 ({limit})")
    shown = Table("  part", "points", "most", "", right=frozenset({"points", "most"}))
    for name, points in score["parts"].items():
        most = score["most"][name]
        filled = round(BAR * points / most)
        shown.add(f"  {name}", str(points), str(most), Cell("█" * filled + "░" * (BAR - filled), "magenta"))
    shown.show()
    echo("  from " + ", ".join(f"{name} {value}" for name, value in score["values"].items()))


def _print_legs(event: Answer) -> None:
    _heading("entry")
    if not event.legs:
        echo("  none: no money moved")
        return
    shown = Table("  account", "debit", "credit", "", right=frozenset({"debit", "credit"}))
    for account, side, amount_minor, currency in event.legs:
        amount = money(amount_minor, currency)
        shown.add(f"  {account}", amount if side == "debit" else "", amount if side == "credit" else "", currency)
    shown.show()


def _print_request(record: RawRecord | None, event: Answer) -> None:
    _heading("request")
    echo(f"  requests offset {event.offset}, sha256 {event.sha256}")
    if record is None:
        echo("  larger than 64 KiB: the journal keeps length and hash only")
        return
    echo(f"  key {_text(record.key)}")
    for name, value in record.headers:
        echo(f"  header {name}: {_text(value)}")
    echo(f"  {_text(record.value)}")


def _heading(text: str) -> None:
    echo()
    echo(Cell(text, "bold"))


def _text(data: bytes | None) -> str:
    return "null" if data is None else data.decode("utf-8", "backslashreplace")


def _plain(told: Told) -> dict[str, object]:
    return dict(_fields(told))


def _fields(told: Told) -> Iterator[tuple[str, object]]:
    yield "transaction", told.transaction
    yield "journal_offset", told.offset
    yield "event", to_builtins(told.event)
    if told.outcome is not None and told.explanation is not None:
        yield "outcome", orjson.loads(told.outcome)
        yield "explanation", orjson.loads(told.explanation)
    if told.record is not None:
        yield (
            "record",
            {
                "key": None if told.record.key is None else _text(told.record.key),
                "headers": [[name, None if value is None else _text(value)] for name, value in told.record.headers],
                "value": None if told.record.value is None else _text(told.record.value),
            },
        )
