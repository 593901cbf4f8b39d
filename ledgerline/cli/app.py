"""The ``ledgerline`` command: gathers the commands and turns failures into one message and an exit code."""

import sys

import typer

from ledgerline.cli import checks, demo, explain, journal, ledger, processes, reads, rebuild, send, stack
from ledgerline.errors import LedgerlineError

app = typer.Typer(
    name="ledgerline",
    help="A stream-processing transaction engine: requests from Kafka, a provable ledger in Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (stack, demo, ledger, processes, send, reads, explain, checks, rebuild, journal):
    group.add_to(app)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 usage, 3 configuration, 4 halted, 5 unreachable, 70 bug."""
    try:
        app()
    except LedgerlineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - the last line: a bug is shown whole and has a code of its own
        import traceback  # noqa: PLC0415 - only here

        traceback.print_exc()
        sys.exit(70)


if __name__ == "__main__":
    main()
