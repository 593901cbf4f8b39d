"""The commands on a real ledger: real Kafka and PostgreSQL, a worker and a sink in a process of their own."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledgerline.stack import registry
from sinks.postgres.migrations import ensure_database
from streams.kafka import Outgoing, Partition, Producer
from tests.ledgerline.commands import Ran, ledgerline

pytestmark = pytest.mark.integration

DEADLINE_S = 60.0


@dataclass(frozen=True)
class Ledger:
    """Settings of a ledger of its own, which this process and its children see."""

    prefix: str
    home: Path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledgerline.cli.app", *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def await_ready(self, process: subprocess.Popen[str]) -> None:
        def ready() -> bool:
            assert process.poll() is None, process.communicate()[0]
            for entry in registry.registered(self.home):
                if entry.pid == process.pid:
                    try:
                        with urllib.request.urlopen(f"http://{entry.address}/readyz", timeout=5) as answer:
                            return answer.status == 200  # type: ignore[no-any-return]
                    except (urllib.error.URLError, OSError):
                        return False
            return False

        until(ready)


@pytest.fixture(scope="module")
def ledger(kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger of two partitions with a running worker and sink, which must end with exit code 0."""
    name = f"t_cli_{secrets.token_hex(4)}"
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LEDGERLINE_CONFIG", raising=False)
        patch.setenv("LEDGERLINE_KAFKA", kafka)
        patch.setenv("LEDGERLINE_POSTGRES", asyncio.run(ensure_database(postgres, name)))
        patch.setenv("LEDGERLINE_PREFIX", f"{name}.")
        patch.setenv("LEDGERLINE_HOME", str(home))
        created = ledgerline("init", "--partitions", "2", "--dev", "--json")
        assert created.code == 0, created.err
        found = Ledger(f"{name}.", home)
        running = found.start("run", "--dev")
        try:
            found.await_ready(running)
            yield found
        finally:
            running.send_signal(signal.SIGTERM)
            printed = running.communicate(timeout=DEADLINE_S)[0]
        assert running.returncode == 0, printed


def test_init_may_be_repeated_and_says_what_it_did(ledger: Ledger) -> None:
    again = ledgerline("init", "--partitions", "2", "--dev")
    assert again.code == 0
    assert "complete already; nothing was changed" in again.out
    shown = ledgerline("init", "--partitions", "2", "--dev", "--json").json
    assert isinstance(shown, dict)
    assert (shown["partitions"], shown["created_topics"], shown["applied_migrations"]) == (2, [], 0)


def test_init_with_another_number_of_partitions_is_refused(ledger: Ledger) -> None:
    refused = ledgerline("init", "--partitions", "3", "--dev")
    assert refused.code == 3
    assert "expected 3 partitions, got 2" in refused.err


def test_doctor_is_content_with_dev_and_refuses_by_name_without(ledger: Ledger) -> None:
    healthy = ledgerline("doctor", "--dev")
    assert healthy.code == 0
    assert "healthy: nothing refuses a start" in healthy.out
    refused = ledgerline("doctor", "--json")
    assert refused.code == 3
    shown = refused.json
    assert isinstance(shown, dict)
    assert {"replication_factor", "min_insync_replicas"} == {finding["name"] for finding in shown["findings"]}
    assert shown["database"] is None


def test_the_process_is_listed_with_its_address(ledger: Ledger) -> None:
    shown = ledgerline("status", "--json").json
    assert isinstance(shown, dict)
    assert [entry["kind"] for entry in shown["processes"]] == ["run"]


def test_a_request_is_answered_and_its_effect_can_be_read_at_once(ledger: Ledger) -> None:
    opened = ledgerline("send", '{"type": "open_account", "account_id": "alice", "currency": "EUR"}')
    assert opened.code == 0, opened.err
    assert "accepted" in opened.out
    options = ("--type", "deposit", "--account", "alice", "--amount", "100.00", "--currency", "EUR", "--rail", "sepa")
    [deposit] = ledgerline("send", *options, "--json").lines
    assert (deposit["status"], deposit["balance_minor"], deposit["replayed"]) == ("accepted", 10000, False)
    after = ("--after", str(deposit["transaction"]))
    shown = ledgerline("balance", "alice", *after)
    assert shown.code == 0, shown.err
    assert "100.00" in shown.out
    [balance] = as_list(ledgerline("balance", "alice", *after, "--json"))
    assert (balance["balance_minor"], balance["available_minor"], balance["held"]) == (10000, 10000, 0)
    [line] = as_list(ledgerline("statement", "alice", "--json"))
    assert (line["side"], line["amount_minor"], line["balance_minor"]) == ("credit", 10000, 10000)
    assert f"{deposit['transaction']}" in ledgerline("statement", "alice").out


def test_a_decline_is_an_answer_and_not_a_failure(ledger: Ledger) -> None:
    opened("bob")
    declined = ledgerline("send", withdrawal("bob", 500))
    assert declined.code == 0
    assert "insufficient_funds" in declined.out
    assert "bob has 0.00 EUR available, 5.00 are needed" in declined.out


def test_a_file_of_requests_is_sent_in_order_and_what_cannot_be_sent_is_named(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    lines = ['{"type": "open_account", "account_id": "carol", "currency": "EUR"}', "nonsense", ""]
    lines += [deposit("carol", amount) for amount in range(1, 301)]
    file.write_text("\n".join(lines))
    sent = ledgerline("send", str(file), "--json")
    assert sent.code == 1
    [refused] = [line for line in sent.lines if "error" in line]
    assert str(refused["error"]).startswith("line 2, value: expected JSON")
    answered = [line for line in sent.lines if "error" not in line]
    assert [line["amount_minor"] for line in answered] == [None, *range(1, 301)]
    assert {line["status"] for line in answered} == {"accepted"}
    assert answered[-1]["balance_minor"] == sum(range(1, 301))


def test_requests_can_be_piped_in(ledger: Ledger) -> None:
    opened("dave")
    sent = ledgerline("send", "-", stdin="\n".join(deposit("dave", amount) for amount in (1, 2, 3)))
    assert sent.code == 0
    assert sent.out.count("accepted") == 3
    assert "3 requests in" in sent.err
    assert "3 accepted" in sent.err


def test_a_request_that_cannot_be_read_is_refused_before_it_is_sent(ledger: Ledger) -> None:
    refused = ledgerline("send", '{"type": "deposit", "account_id": "alice"}')
    assert (refused.code, refused.out) == (1, "")
    assert "error: amount_minor: expected a value, found nothing (the field is missing)" in refused.err


def test_a_request_sent_again_is_replayed_and_both_answers_are_found(ledger: Ledger) -> None:
    opened("erin")
    request = {**json.loads(deposit("erin", 700)), "request_id": "again", "requested_at": now()}
    first, second = (ledgerline("send", json.dumps(request), "--json").lines[0] for _ in range(2))
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert first["transaction"] == second["transaction"]
    ledgerline("balance", "erin", "--after", f"{second['partition']}-{second['seq']}")
    found = as_list(ledgerline("outcome", "again", "--account", "erin", "--json"))
    assert found == [first, second]
    assert "accepted (replayed)" in ledgerline("outcome", "again").out


def test_what_postgres_does_not_hold_is_exit_code_1_with_what_to_do(ledger: Ledger) -> None:
    for command in (["balance", "nobody"], ["statement", "nobody"], ["outcome", "no-such-request"]):
        missing = ledgerline(*command)
        assert missing.code == 1, command
        assert "the sink is behind" in missing.err
    late = ledgerline("balance", "alice", "--after", "0-999999", "--timeout", "0.2")
    assert late.code == 1
    assert "expected seq 999999 in PostgreSQL within 0.2 s" in late.err


def test_explain_shows_why_a_decision_came_out_as_it_did(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    opened("frank")
    ledgerline("send", deposit("frank", 2000))
    [accepted] = ledgerline("send", withdrawal("frank", 1500), "--json").lines
    [declined] = ledgerline("send", withdrawal("frank", 1500), "--json").lines
    shown = ledgerline("explain", str(accepted["transaction"]))
    assert shown.code == 0, shown.err
    assert "accepted  withdraw 15.00 EUR of frank" in shown.out
    assert "needed 15.00, available before 20.00 EUR" in shown.out
    assert "sys:external:sepa:EUR" in shown.out
    assert "12 ✓ accept" in shown.out
    monkeypatch.setenv("LEDGERLINE_POSTGRES", "postgresql://nobody@127.0.0.1:9/none")  # the journal alone suffices
    shown = ledgerline("explain", str(declined["transaction"]))
    assert shown.code == 0, shown.err
    assert "8 ✗ funds" in shown.out
    assert "docs/requests.md#insufficient_funds" in shown.out
    assert "none: no money moved" in shown.out
    plain = ledgerline("explain", str(declined["transaction"]), "--json").json
    assert isinstance(plain, dict)
    assert plain["outcome"] == declined
    assert plain["explanation"]["check"]["name"] == "funds"
    assert json.loads(plain["record"]["value"])["account_id"] == "frank"


def test_explain_shows_which_rules_were_picked_up(ledger: Ledger) -> None:
    opened("gina")
    events = [event for line in ledgerline("journal", "--json").lines for event in as_events(line)]
    pickup = next(event for event in events if event["event"] == "config")
    shown = ledgerline("explain", str(pickup["transaction"]))
    assert shown.code == 0, shown.err
    assert "config active  version default-1, config offset 0" in shown.out


def test_an_event_that_is_not_there_is_exit_code_1(ledger: Ledger) -> None:
    for transaction, expected in (("0-999999", "ends at 0-"), ("7-1", "the ledger has the partitions 0 to 1")):
        missing = ledgerline("explain", transaction)
        assert missing.code == 1
        assert expected in missing.err


def test_the_journal_is_shown_for_people_and_for_programs(ledger: Ledger) -> None:
    opened("hans")
    [answer] = ledgerline("send", deposit("hans", 12345), "--json").lines
    where = ("--partition", str(answer["partition"]))
    pages = ledgerline("journal", *where)
    assert pages.code == 0, pages.err
    for words in ("genesis ledger", "lease epoch 1, token", "block seq 1..", "accepted deposit hans", "config active"):
        assert words in pages.out
    from_seq = ("--from-seq", str(answer["seq"]), "--limit", "1")
    [block] = ledgerline("journal", *where, *from_seq, "--json").lines
    assert (block["kind"], block["verdict"]) == ("block", "valid")
    [event] = as_events(block)
    assert event["outcome"] == answer
    assert (event["transaction"], event["account_id"]) == (answer["transaction"], "hans")


def test_the_state_hash_is_that_of_any_other_fold(ledger: Ledger) -> None:
    hashes = [
        subprocess.run(
            [sys.executable, "-m", "ledgerline.cli.app", "journal", "--state-hash", "--partition", "0", "--json"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=DEADLINE_S,
        ).stdout
        for seed in ("1", "2")
    ]
    assert hashes[0] == hashes[1]
    [shown] = json.loads(hashes[0])
    assert len(shown["state_hash"]) == 64
    assert f"{shown['seq']}  " in ledgerline("journal", "--state-hash").out


def test_rules_are_published_picked_up_and_shown(ledger: Ledger, tmp_path: Path) -> None:
    opened("ines")
    shown = ledgerline("rules", "show", "--json").json
    assert isinstance(shown, dict)
    bundle = {name: value for name, value in shown["bundle"].items() if value is not None}
    limit = {"type": "deposit", "currency": "EUR", "per_transaction_minor": 250}
    bundle |= {"version": "strict-1", "tiers": {"standard": {"limits": [limit]}}, "scoring": {}}
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(bundle))
    published = ledgerline("rules", "publish", str(file))
    assert published.code == 0, published.err
    assert "published version strict-1" in published.out
    assert "strict-1" in ledgerline("rules", "show").out
    assert "2.50" in ledgerline("rules", "show").out
    assert "default-1" in ledgerline("rules", "show", "default-1").out

    def limited() -> bool:
        [answer] = ledgerline("send", deposit("ines", 300), "--json").lines
        return answer["reason"] == "per_transaction_limit"

    until(limited)
    bundle |= {"version": "free-1", "tiers": {"standard": {"limits": []}}}
    file.write_text(json.dumps(bundle))
    assert ledgerline("rules", "publish", str(file)).code == 0
    until(lambda: ledgerline("send", deposit("ines", 300), "--json").lines[0]["status"] == "accepted")


def test_wrong_rules_are_refused_before_they_are_published(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('{"v": 1, "kind": "bundle"}')
    refused = ledgerline("rules", "publish", str(file))
    assert refused.code == 3
    assert "rules.json: version: expected a value, found nothing" in refused.err
    assert "nothing was published" in refused.err


def test_the_ledger_is_proved(ledger: Ledger) -> None:
    def proved() -> bool:
        last = ledgerline("verify", "--no-rebuild")
        return last.code == 0 and "proved" in last.out

    until(proved)


def test_a_worker_and_a_sink_of_their_own_drain_at_sigterm(ledger: Ledger) -> None:
    for arguments in (("worker", "--dev"), ("sink",)):
        process = ledger.start(*arguments)
        ledger.await_ready(process)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=DEADLINE_S)[0]
        assert process.returncode == 0, printed
        assert "draining" in printed


def test_a_worker_that_doctor_refuses_does_not_start(ledger: Ledger) -> None:
    refused = ledgerline("worker")
    assert refused.code == 3
    assert "replication_factor: " in refused.err
    assert "Traceback" not in refused.err


def test_a_prefix_without_a_ledger_is_exit_code_3(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERLINE_PREFIX", "t_cli_nobody.")
    for command in (["send", deposit("alice", 1)], ["journal"], ["verify"], ["explain", "0-1"], ["worker", "--dev"]):
        refused = ledgerline(*command)
        assert refused.code == 3, (command, refused)
        assert "ledgerline init" in refused.err, command


def test_a_database_without_a_ledger_is_exit_code_3(
    ledger: Ledger, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGERLINE_POSTGRES", postgres)
    for command in (["balance", "alice"], ["statement", "alice"], ["outcome", "r-1"], ["doctor", "--dev"], ["sink"]):
        refused = ledgerline(*command)
        assert refused.code == 3, (command, refused)
        assert "ledgerline init" in refused.out + refused.err, command


def test_the_journal_can_be_followed(ledger: Ledger) -> None:
    opened("jens")
    [first] = ledgerline("send", deposit("jens", 1), "--json").lines
    from_seq = ("--partition", str(first["partition"]), "--from-seq", str(first["seq"]))
    following = ledger.start("journal", *from_seq, "--follow", "--json", PYTHONUNBUFFERED="1")
    try:
        assert following.stdout is not None
        [seen] = as_events(json.loads(following.stdout.readline()))
        assert seen["transaction"] == first["transaction"]
        [second] = ledgerline("send", deposit("jens", 2), "--json").lines
        transactions = [event["transaction"] for event in as_events(json.loads(following.stdout.readline()))]
        assert transactions == [second["transaction"]]
    finally:
        following.send_signal(signal.SIGINT)
        rest = following.communicate(timeout=DEADLINE_S)[0]
    assert "Traceback" not in rest


def test_a_reader_that_goes_away_is_no_bug(ledger: Ledger) -> None:
    command = f"{sys.executable} -m ledgerline.cli.app journal --json | head -n 1"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert ran.stdout.startswith('{"offset":0,"kind":"genesis"')
    assert "Traceback" not in ran.stderr


def test_the_database_of_another_ledger_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    opened("kurt")
    until(lambda: ledgerline("balance", "kurt").code == 0)  # from here on the database belongs to that ledger
    monkeypatch.setenv("LEDGERLINE_PREFIX", f"{ledger.prefix}other.")
    assert ledgerline("init", "--partitions", "1", "--dev").code == 0
    checked = ledgerline("doctor", "--dev")
    assert checked.code == 3
    assert "expected the rows of ledger" in checked.out
    refused = ledgerline("sink")
    assert refused.code == 3
    assert "expected the rows of ledger" in refused.err


def test_a_broken_journal_is_exit_code_4(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"{ledger.prefix}broken."
    monkeypatch.setenv("LEDGERLINE_PREFIX", prefix)
    assert ledgerline("init", "--partitions", "1", "--dev").code == 0

    async def spoil() -> None:
        producer = await Producer.start(os.environ["LEDGERLINE_KAFKA"], "test")
        await producer.send(Partition(f"{prefix}journal", 0), Outgoing(None, b"{}"), 10)
        await producer.close()

    asyncio.run(spoil())
    for command in (["journal"], ["explain", "0-1"], ["journal", "--state-hash"]):
        broken = ledgerline(*command)
        assert broken.code == 4, (command, broken)
        assert f"{prefix}journal[0] offset 1: expected the headers kind and format first" in broken.err


def test_a_taken_address_is_exit_code_3(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    [taken] = [entry.address for entry in registry.registered(ledger.home) if entry.kind == "run"]
    monkeypatch.setenv("LEDGERLINE_HTTP", taken)
    refused = ledgerline("worker", "--dev")
    assert refused.code == 3
    assert f"expected a free address, got {taken}" in refused.err


def opened(account: str) -> None:
    request = json.dumps({"type": "open_account", "account_id": account, "currency": "EUR"})
    answered = ledgerline("send", request)
    assert answered.code == 0, answered.err


def deposit(account: str, amount_minor: int) -> str:
    plain = {"type": "deposit", "account_id": account, "amount_minor": amount_minor, "currency": "EUR", "rail": "sepa"}
    return json.dumps(plain)


def withdrawal(account: str, amount_minor: int) -> str:
    plain = {"type": "withdraw", "account_id": account, "amount_minor": amount_minor, "currency": "EUR", "rail": "sepa"}
    return json.dumps(plain)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def as_list(ran: Ran) -> list[dict[str, object]]:
    assert ran.code == 0, ran.err
    shown = ran.json
    assert isinstance(shown, list)
    return shown


def as_events(line: dict[str, object]) -> list[dict[str, object]]:
    events = line.get("events", [])
    assert isinstance(events, list)
    return events


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
