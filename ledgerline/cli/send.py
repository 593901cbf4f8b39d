"""``send``: one request, or a file of them, and what became of each."""

import asyncio
import contextlib
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, assert_never

import orjson
import typer

from ledgerline.cli.outcomes import print_outcomes
from ledgerline.cli.shared import AsJson, fail, kafka_address, print_json_line, run
from ledgerline.client import Client, NoAnswer, Result
from ledgerline.settings import load_settings
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.codec import Malformed, decode_object
from schemas.currencies import EXPONENTS
from schemas.outcomes import Outcome

SHOWN_TOGETHER: Final = 200
"""Rows of one table: a long file is shown in parts, as the outcomes come."""
_AMOUNT: Final = re.compile(r"(-?)(\d{1,18})(?:\.(\d+))?", re.ASCII)


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(send)


def send(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[REQUEST]", help="A request as JSON, a file of one JSON object per line, or - for stdin."
        ),
    ] = None,
    *,
    kind: Annotated[str | None, typer.Option("--type", help="Instead of JSON: deposit, withdraw, transfer, …")] = None,
    account: Annotated[
        str | None, typer.Option(help="The account whose money leaves; of a deposit the credited one.")
    ] = None,
    amount: Annotated[str | None, typer.Option(help="In the currency's units: 12.50")] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217 code: EUR")] = None,
    payee: Annotated[str | None, typer.Option(help="Of a transfer.")] = None,
    rail: Annotated[str | None, typer.Option(help="Of a deposit or withdrawal: sepa, card, cash, …")] = None,
    request_id: Annotated[str | None, typer.Option("--id", help="The request id; without it a fresh one.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each outcome.")] = 30.0,
    final: Annotated[bool, typer.Option("--final", help="Wait for the outcome that ends the request.")] = False,
    reply_to: Annotated[str | None, typer.Option(help="Read the answers from this topic instead of outcomes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send requests and wait for their outcomes. v, request_id and requested_at are filled in where they are absent.

    A decline is an answer: exit code 0. Exits with 1 if a request was not answered in time or could not be sent.

    Examples: ledgerline send '{"type": "open_account", "account_id": "alice", "currency": "EUR"}'

    ledgerline send --type transfer --account alice --payee bob --amount 12.50 --currency EUR

    ledgerline send payments.jsonl --json > outcomes.jsonl
    """
    fields = {"type": kind, "account_id": account, "payee": payee, "rail": rail, "request_id": request_id}
    given = {name: value for name, value in fields.items() if value is not None}
    if source is None and kind is None:
        raise typer.BadParameter("expected either a REQUEST or --type with its options", param_hint="REQUEST")
    if source is not None and (given or amount is not None or currency is not None):
        raise typer.BadParameter("expected either a REQUEST or options that make one, found both", param_hint="REQUEST")
    if source is None:
        requests: Source = [request_of(given, amount, currency)]
    else:
        requests = source_of(source)
    settings = load_settings()
    client = Client(kafka=kafka_address(settings), prefix=settings.prefix, reply_to=reply_to)
    report, started = Report(as_json=as_json), time.monotonic()
    run(_send(client, requests, timeout, report, final=final))
    report.show()
    if report.tally.total() > 1 and not as_json:
        typer.echo(report.summary(time.monotonic() - started), err=True)
    if report.tally["not answered"] or report.tally["not sent"]:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Line:
    """A request as text, and where it stands."""

    text: str
    where: str = ""

    def decode(self) -> dict[str, Any]:
        """Strictly: a key that stands twice is refused as the engine would. Raises Malformed."""
        try:
            return decode_object(self.text.encode(), max_bytes=MAX_REQUEST_BYTES)
        except Malformed as problem:
            raise Malformed(f"{self.where}{problem.field}", problem.expected, problem.found) from None


Source = Iterable[Line | dict[str, Any]] | AsyncIterator[Line | dict[str, Any]]


class Report:
    """Shows results as they come, and counts them. Mutable."""

    def __init__(self, *, as_json: bool) -> None:
        self.tally: Counter[str] = Counter()
        self._as_json = as_json
        self._rows: list[Outcome] = []

    def add(self, result: Result) -> None:
        """Outcomes go to stdout, a table's worth at a time; what was not sent or not answered goes to stderr."""
        match result:
            case Outcome():
                self.tally[f"{result.status} ({result.reason})" if result.reason else result.status] += 1
            case NoAnswer():
                self.tally["not answered"] += 1
            case Malformed():
                self.tally["not sent"] += 1
            case _:
                assert_never(result)
        if self._as_json:
            print_json_line(_plain(result))
        elif isinstance(result, Outcome):
            self._rows.append(result)
            if len(self._rows) == SHOWN_TOGETHER:
                self.show()
        else:
            fail(str(result))
            if isinstance(result, NoAnswer):
                again = orjson.dumps(result.request).decode()
                typer.echo(f"again: ledgerline send {shlex.quote(again)}", err=True)

    def show(self) -> None:
        """Print what was not printed yet."""
        if self._rows:
            print_outcomes(self._rows)
            self._rows.clear()

    def summary(self, seconds: float) -> str:
        """One line over everything."""
        parts = ", ".join(f"{count:,} {name}" for name, count in sorted(self.tally.items()))
        return f"{self.tally.total():,} requests in {seconds:.1f} s: {parts}"


def _plain(result: Result) -> dict[str, Any]:
    """The outcome itself, or the error and the request that can be sent again."""
    match result:
        case Outcome():
            return result.model_dump(mode="json")
        case NoAnswer():
            return {"error": str(result), "request": result.request}
        case Malformed():
            return {"error": str(result)}
        case _:
            assert_never(result)


def request_of(given: dict[str, str], amount: str | None, currency: str | None) -> dict[str, Any]:
    """The request that the options make. Raises typer.BadParameter for an amount that its currency cannot have."""
    request: dict[str, Any] = dict(given)
    if currency is not None:
        request["currency"] = currency
    if amount is not None:
        if currency not in EXPONENTS:
            raise typer.BadParameter(
                f"expected --currency with an ISO 4217 code, found {currency}", param_hint="--currency"
            )
        request["amount_minor"] = amount_minor(amount, EXPONENTS[str(currency)])
    return request


def amount_minor(text: str, digits: int) -> int:
    """Minor units of an amount as people write it; exact, or typer.BadParameter."""
    found = _AMOUNT.fullmatch(text)
    sign, whole, decimals = found.groups(default="") if found is not None else ("", "", "")
    if found is None or len(decimals) > digits:
        raise typer.BadParameter(
            f"expected a number with at most {digits} decimals, found {text!r}", param_hint="--amount"
        )
    return int(f"{sign}{whole}{decimals:0<{digits}}")


def source_of(source: str) -> Source:
    """One request in JSON, or those of a file or stdin, a line each."""
    if source == "-":
        return _piped(sys.stdin)
    if source.lstrip().startswith("{"):
        return [Line(source)]
    path = Path(source)
    if not path.is_file():
        raise typer.BadParameter(
            f"expected JSON, a file, or -, found {source!r}, which is no file", param_hint="REQUEST"
        )
    return _filed(path)


def _filed(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8") as file:
        yield from (Line(text, f"line {number}, ") for number, text in enumerate(file, 1) if text.strip())


async def _piped(stream: TextIO) -> AsyncIterator[Line]:
    """Read in another thread: a pipe's next line may be long in coming, and outcomes are to be shown meanwhile."""
    number = 0
    while text := await asyncio.to_thread(stream.readline):
        number += 1
        if text.strip():
            yield Line(text, f"line {number}, ")


async def _send(client: Client, lines: Source, timeout: float, report: Report, *, final: bool) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        async for line in _each(lines):
            try:
                yield line if isinstance(line, dict) else line.decode()
            except Malformed as problem:
                report.add(problem)

    async with client, contextlib.aclosing(client.send_many(requests(), timeout=timeout, final=final)) as results:
        async for result in results:
            report.add(result)


async def _each(lines: Source) -> AsyncIterator[Line | dict[str, Any]]:
    if isinstance(lines, AsyncIterator):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line
