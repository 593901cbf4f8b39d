"""How console blocks of the manual are found and compared, and that each of them is executed or says why not."""

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.docs.console import Command, commands, missing_line, names, pages, run, unmarked, with_free_ports

PAGE = """
<!-- test: first -->
```console
$ echo one
one
$ cat <<END
> two
> END
two
```
<!-- not run: needs a container engine -->
```console
$ docker compose up
```
<!-- test: first -->
```console
$ echo three
```
```console
$ echo unmarked
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    found = tmp_path / "page.md"
    found.write_text(PAGE)
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_console_block_of_the_manual_is_executed_or_says_why_not(page: Path) -> None:
    assert unmarked(page) == []


def test_blocks_of_one_name_are_one_list_of_commands_with_what_they_show(page: Path) -> None:
    assert names(page) == ["first"]
    assert commands(page, "first") == [
        Command("echo one", ["one"]),
        Command("cat <<END\ntwo\nEND", ["two"]),
        Command("echo three"),
    ]
    assert unmarked(page) == ["$ echo unmarked"]


def test_commands_run_in_one_shell_and_each_has_its_own_output(page: Path, tmp_path: Path) -> None:
    listed = [Command("here=5"), Command("echo $here; echo $here"), Command("echo $((here + 1))")]
    ran = run(listed, folder=tmp_path, environment=os.environ, within_s=20)
    assert (ran.code, ran.outputs) == (0, [[], ["5", "5"], ["6"]])


def test_a_command_that_fails_ends_the_run_and_leaves_no_process(tmp_path: Path) -> None:
    listed = [Command("sleep 987 & echo $!"), Command("false"), Command("echo never")]
    ran = run(listed, folder=tmp_path, environment=os.environ, within_s=20)
    assert ran.code == 1
    assert "never" not in ran.printed
    assert_gone(int(ran.outputs[0][0]))


def test_commands_that_take_too_long_are_killed_with_all_they_started(tmp_path: Path) -> None:
    listed = [Command("sleep 987 & echo $! > pid"), Command("sleep 986")]
    with pytest.raises(subprocess.TimeoutExpired):
        run(listed, folder=tmp_path, environment=os.environ, within_s=2)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_a_background_process_that_does_not_end_well_fails_the_run(tmp_path: Path) -> None:
    failing = Command("bash -c 'trap \"exit 4\" TERM; touch up; while :; do sleep 0.1; done' &")
    listed = [failing, Command("until test -e up; do sleep 0.1; done")]
    assert run(listed, folder=tmp_path, environment=os.environ, within_s=20).code == 4


def test_shown_lines_must_be_printed_in_their_order() -> None:
    printed = ["ledger 17: 4 partitions", "something else", "healthy:   nothing refuses"]
    assert missing_line(["ledger …: 4 partitions", "healthy: nothing …"], printed) is None
    assert missing_line(["healthy: …", "ledger …"], printed) == "ledger …"
    assert missing_line(["ledger …: 5 partitions"], printed) == "ledger …: 5 partitions"
    assert missing_line(["healthy"], printed) == "healthy"


def test_an_example_port_is_replaced_by_one_free_port_everywhere() -> None:
    first, second = with_free_ports(
        [Command("LEDGERLINE_HTTP=127.0.0.1:9464 x"), Command("curl 127.0.0.1:9464 127.0.0.1:9465", ["127.0.0.1:9465"])]
    )
    address = first.text.removeprefix("LEDGERLINE_HTTP=").removesuffix(" x")
    other = second.shown[0]
    assert second.text == f"curl {address} {other}"
    assert len({"127.0.0.1:9464", address, other}) == 3


def assert_gone(pid: int) -> None:
    """A killed child of a shell that ended is reaped by whoever adopted it, soon."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} was left behind"
        time.sleep(0.05)
