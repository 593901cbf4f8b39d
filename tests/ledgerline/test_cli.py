"""The command line without servers: help, usage, configuration, and how output looks."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ledgerline.cli.app import app
from ledgerline.cli.processes import partition_list
from ledgerline.cli.send import amount_minor
from ledgerline.cli.shared import Cell, Table, money
from tests.ledgerline.commands import Ran, ledgerline

COMMANDS = [
    "up", "down", "status", "demo", "init", "doctor", "worker", "sink", "run", "send", "balance", "statement",
    "outcome", "explain", "verify", "rebuild", "journal",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A home without a stack, and no settings from outside."""
    for name in ("KAFKA", "POSTGRES", "PREFIX", "HTTP", "CONFIG", "DEV", "PARTITIONS"):
        monkeypatch.delenv(f"LEDGERLINE_{name}", raising=False)
    monkeypatch.setenv("LEDGERLINE_HOME", str(tmp_path))
    with contextlib.chdir(tmp_path):
        yield


def test_every_command_is_listed() -> None:
    shown = ledgerline("--help")
    assert shown.code == 0
    for name in [*COMMANDS, "rules"]:
        assert f" {name} " in shown.out


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["rules", "publish"], ["rules", "show"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    shown = ledgerline(*command, "--help")
    assert shown.code == 0
    assert "Usage:" in shown.out


@pytest.mark.parametrize(
    "command",
    [
        *(["init"], ["doctor"], ["worker"], ["sink"], ["run"], ["send"], ["balance"], ["statement"], ["outcome"]),
        *(["explain"], ["verify"], ["rebuild"], ["journal"], ["rules", "publish"], ["rules", "show"]),
    ],
)
def test_help_shows_an_example(command: list[str]) -> None:
    assert f"ledgerline {' '.join(command)}" in ledgerline(*command, "--help").out


def test_a_command_without_servers_says_how_to_get_them() -> None:
    for command in (["send", '{"type": "close_account"}'], ["balance", "alice"], ["init"], ["doctor"], ["verify"]):
        refused = ledgerline(*command)
        assert (refused.code, refused.out) == (5, ""), command
        assert "run `ledgerline up --detach`" in refused.err
        assert "Traceback" not in refused.err


def test_servers_that_do_not_answer_are_exit_code_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERLINE_KAFKA", "127.0.0.1:9")
    monkeypatch.setenv("LEDGERLINE_POSTGRES", "postgresql://nobody@127.0.0.1:9/none")
    for command in (
        *(["send", '{"type": "close_account", "account_id": "a"}'], ["balance", "alice"], ["explain", "0-1"], ["init"]),
        *(
            ["doctor"],
            ["journal"],
            ["rules", "show"],
            ["verify"],
            ["worker"],
            ["outcome", "r-1"],
            ["statement", "alice"],
        ),
    ):
        refused = ledgerline(*command)
        assert (refused.code, refused.out) == (5, ""), command
        assert "127.0.0.1:9" in refused.err or "Connect call failed" in refused.err, command
        assert "Traceback" not in refused.err, command


def test_a_wrong_setting_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERLINE_KAFKA", "localhost")
    refused = ledgerline("send", "{}")
    assert refused.code == 3
    assert "LEDGERLINE_KAFKA" in refused.err
    assert "expected host:port" in refused.err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["send"], "expected either a REQUEST or --type"),
        (["send", "{}", "--type", "deposit"], "found both"),
        (["send", "no-such-file"], "expected JSON, a file, or -, found 'no-such-file'"),
        (["send", "--type", "deposit", "--amount", "1.005", "--currency", "EUR"], "at most 2 decimals, found '1.005'"),
        (["send", "--type", "deposit", "--amount", "1"], "expected --currency with an ISO 4217 code"),
        (["explain", "3"], "expected a transaction id <partition>-<seq> such as 3-128, found '3'"),
        (["journal", "--follow"], "expected --partition with --follow"),
        (["journal", "--upto-seq", "3"], "expected --state-hash with --upto-seq"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_was_expected(command: list[str], expected: str) -> None:
    refused = ledgerline(*command)
    assert refused.code == 2
    assert expected in without_frame(refused)


@pytest.mark.parametrize(
    ("text", "digits", "minor"), [("12.50", 2, 1250), ("12", 2, 1200), ("0.001", 3, 1), ("7", 0, 7), ("-1", 2, -100)]
)
def test_amounts_are_exact(text: str, digits: int, minor: int) -> None:
    assert amount_minor(text, digits) == minor


@pytest.mark.parametrize("text", ["1.5", "1e400000000", "NaN", "ten", "Infinity", ""])
def test_amounts_that_the_currency_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        amount_minor(text, 0)


def test_partition_lists_are_read() -> None:
    assert partition_list("0,3,5-7") == frozenset({0, 3, 5, 6, 7})
    for text in ("", "a", "3-", "7-5", "1,,2", "-1"):
        with pytest.raises(typer.BadParameter, match="expected a list such as 0,3,5-7"):
            partition_list(text)


def test_money_has_the_digits_of_its_currency() -> None:
    assert [money(1250, "EUR"), money(1250, "JPY"), money(-1, "KWD"), money(None, "EUR")] == [
        "12.50",
        "1250",
        "-0.001",
        "",
    ]


def test_tables_are_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("account", "balance", "note", right=frozenset({"balance"}))
    table.add("a" * 64, Cell("1.00", "green"), "x" * 300)
    table.add("b", "1000.00", "")
    table.show()
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.index("balance") + len("balance") == first.index("1.00") + len("1.00")
    assert first.endswith("  " + "x" * 300)
    assert second.startswith("b" + " " * 63)
    assert "\x1b" not in header + first


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: io.StringIO) -> str:
        table = Table("status")
        table.add(Cell("accepted", "green"))
        with contextlib.redirect_stdout(stream):
            table.show()
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32maccepted" in shown(Terminal())
    assert "\x1b" not in shown(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(Terminal())


def test_a_bug_is_exit_code_70_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "registered_commands", [*app.registered_commands])
    app.command("broken")(broken)
    failed = ledgerline("broken")
    assert failed.code == 70
    assert "ZeroDivisionError" in failed.err


def without_frame(ran: Ran) -> str:
    """What the command line's parser says, without its box and line breaks."""
    return " ".join(ran.err.replace("│", " ").split())
