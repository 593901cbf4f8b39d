"""``balance``, ``statement``, ``outcome``: what PostgreSQL knows."""

from typing import Annotated

import typer

from ledgerline import queries
from ledgerline.cli.outcomes import print_outcomes
from ledgerline.cli.shared import AsJson, Table, fail, money, postgres_dsn, print_json, run
from ledgerline.settings import load_settings
from schemas.outcomes import parse_transaction_id, transaction_id

After = Annotated[
    str | None,
    typer.Option(
        "--after",
        metavar="TRANSACTION",
        help="First wait until PostgreSQL holds this transaction: what it did is then in the answer.",
    ),
]
Wait = Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait for --after.")]


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command()(balance)
    app.command()(statement)
    app.command()(outcome)


def balance(
    account: Annotated[str, typer.Argument(help="An account id, or a system account such as sys:fees:EUR.")],
    after: After = None,
    timeout: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show what an account has. Exits with 1 if the ledger does not know it.

    Example: ledgerline balance alice --after 3-128
    """
    dsn = postgres_dsn(load_settings())
    _wait(dsn, after, timeout)
    found = run(queries.balances(dsn, account))
    if as_json:
        print_json(found)
    else:
        shown = Table(
            "account", "balance", "available", "held", "", "partition", "as of",
            right=frozenset({"balance", "available", "held", "partition"}),
        )  # fmt: skip
        for row in found:
            shown.add(
                row.account_id,
                money(row.balance_minor, row.currency),
                money(row.available_minor, row.currency),
                money(row.held, row.currency),
                row.currency,
                str(row.partition),
                transaction_id(row.partition, row.seq),
            )
        if found:
            shown.show()
    if not found:
        raise fail(unknown(account))


def statement(
    account: Annotated[str, typer.Argument(help="An account id.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many of the last postings.")] = 50,
    after: After = None,
    timeout: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show the last postings of an account, oldest first, each with the balance behind it.

    Example: ledgerline statement alice --limit 10
    """
    dsn = postgres_dsn(load_settings())
    _wait(dsn, after, timeout)
    known, lines = run(queries.balances(dsn, account)), run(queries.statement_lines(dsn, account, limit))
    if not known:
        raise fail(unknown(account))
    if as_json:
        print_json(lines)
        return
    shown = Table(
        "at", "transaction", "type", "debit", "credit", "balance", "", "request",
        right=frozenset({"debit", "credit", "balance"}),
    )  # fmt: skip
    for line in lines:
        amount = money(line.amount_minor, line.currency)
        shown.add(
            line.at,
            transaction_id(line.partition, line.seq),
            line.type or "",
            amount if line.side == "debit" else "",
            amount if line.side == "credit" else "",
            money(line.balance_minor, line.currency),
            line.currency,
            line.request_id or "",
        )
    shown.show()


def outcome(
    request_id: Annotated[str, typer.Argument(help="The id of a request.")],
    account: Annotated[
        str | None, typer.Option("--account", help="Only of this account: ids are unique per account.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a request was answered, replays included. Exits with 1 if PostgreSQL holds no answer (yet).

    Example: ledgerline outcome r-1 --account alice
    """
    found = run(queries.outcomes_of(postgres_dsn(load_settings()), request_id))
    if account is not None:
        found = [one for one in found if one.account_id == account]
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    elif found:
        print_outcomes(found)
    if not found:
        of = f" of account {account}" if account is not None else ""
        raise fail(
            f"no answer to request {request_id}{of} in PostgreSQL: it was not decided, or the sink is behind; "
            "send the same request again (same request_id and requested_at) to learn its outcome"
        )


def unknown(account: str) -> str:
    """What to say about an account that PostgreSQL does not hold."""
    return (
        f"PostgreSQL holds no account {account}: it was not opened, or the sink is behind (--after TRANSACTION waits)"
    )


def _wait(dsn: str, after: str | None, timeout: float) -> None:
    if after is None:
        return
    try:
        parse_transaction_id(after)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--after") from None
    try:
        run(queries.written_through(dsn, after, timeout))
    except TimeoutError as error:
        raise fail(str(error)) from None
