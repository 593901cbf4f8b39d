"""``Rebuild`` on a real Kafka and PostgreSQL, while a worker decides, sinks write and readers read."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import orjson
import pytest

from sinks.postgres import compare
from sinks.postgres.compare import MAX_DIFFERENCES, Comparison
from sinks.postgres.rebuild import REBUILT, Rebuild, RebuildRefused
from sinks.postgres.second import SecondSink
from sinks.postgres.session import session
from sinks.postgres.switch import Switch
from tests.kills.ledger import Ledger, ledger, until
from tests.kills.stream import beside, proved, rebuild, schemas, streaming

pytestmark = pytest.mark.integration
PARTITIONS = 2


@pytest.fixture
async def here(kafka: str, postgres: str) -> AsyncIterator[Ledger]:
    async with ledger(kafka, postgres, PARTITIONS) as found:
        yield found


async def test_a_rebuild_is_compared_and_switched_while_requests_are_decided_written_and_read(
    here: Ledger, tmp_path: Path
) -> None:
    seen: list[int] = []

    async def read(stop: asyncio.Event) -> None:
        """One session with prepared statements, as a reader has; balances of the two accounts only ever move on."""
        async with session(here.dsn) as connection:
            query = await connection.prepare(
                "SELECT b.balance_minor, (SELECT count(*) FROM statement AS s WHERE s.account_id = b.account_id),"
                " (SELECT seq FROM sink_positions WHERE partition = 0) FROM balances AS b WHERE account_id = $1"
            )
            while not stop.is_set():
                row = await query.fetchrow(here.payee(0))
                assert row is not None
                balance, legs, seq = row
                assert balance == legs, "each leg is one cent"
                assert not seen or seq >= seen[-1]
                seen.append(seq)
                await asyncio.sleep(0.005)

    async with streaming(here, tmp_path) as stream:
        async with beside(stream.flow, read):
            epochs = await sink_epochs(here)
            done = await rebuild(here).run()
            before = seen[-1]
            assert await until(lambda: later(seen, before))
        await stream.ask(1)
        await stream.written()
        assert done.differences == ()
        assert done.retired is not None
        assert done.events > 100
        assert await schemas(here) == ["ledgerline", done.retired]
        await proved(here)
        assert [sink.halted for sink in stream.sinks] == [{}, {}]
        # One for the switch, one for the live sink, which took its partition again: nothing that it remembered counts.
        assert await sink_epochs(here) == [epoch + 2 for epoch in epochs]
    async with session(here.dsn) as connection:
        assert await connection.fetchval("SELECT sink_id FROM ledger") == "main"
        assert await connection.fetch("SELECT * FROM unproved_balances") == []


async def sink_epochs(here: Ledger) -> list[int]:
    async with session(here.dsn) as connection:
        return [row[0] for row in await connection.fetch("SELECT sink_epoch FROM sink_positions ORDER BY partition")]


async def later(seen: list[int], before: int) -> bool:
    return seen[-1] > before


async def test_a_ledger_can_be_rebuilt_again_and_again(here: Ledger, tmp_path: Path) -> None:
    async with streaming(here, tmp_path) as stream:
        async with session(here.dsn) as connection:  # as a ledger has them that is older than migration 6
            await connection.execute("UPDATE decision_rows SET explanation = explanation::jsonb::text::json")
        retired = [(await rebuild(here).run()).retired]
        await asyncio.sleep(1.1)  # the dated names tell seconds apart
        await stream.ask(5)
        retired.append((await rebuild(here).run()).retired)
        await stream.ask(5)
        await stream.written()
        await proved(here)
    assert await schemas(here) == ["ledgerline", *sorted(str(name) for name in retired)]


PLANTED = {
    ("decisions", "partition 1, seq 9"): "UPDATE decisions SET reason = 'wrong' WHERE partition = 1 AND seq = 9",
    ("entries", "partition 0, seq 8"): "DELETE FROM entries WHERE partition = 0 AND seq = 8",
    ("posting_rows", "partition 1, seq 12, leg 2"): "UPDATE posting_rows SET amount_minor = 2"
    " WHERE (partition, seq, leg) = (1, 12, 2)",
    ("account_counters", "account_key 2"): "UPDATE account_counters SET held = 7 WHERE account_key = 2",
    ("account_terms", "account_key 1"): "UPDATE account_terms SET attributes = '{\"a\": 1}' WHERE account_key = 1",
    ("skips", "partition 1, seq 900000"): "INSERT INTO skips VALUES (900000, now(), 1, 3, 'behind the position')",
    ("skips", "partition 7, seq 1"): "INSERT INTO skips VALUES (1, now(), 7, 3, 'there is no such partition')",
    ("sink_positions", "partition 1"): "UPDATE sink_positions SET at = at + 1 WHERE partition = 1",
}


@pytest.mark.parametrize("chunk", [compare.CHUNK, 7])
async def test_changed_rows_are_found_and_named_and_nothing_is_switched_unless_that_is_accepted(
    here: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(compare, "CHUNK", chunk)
    async with streaming(here, tmp_path):
        pass
    async with session(here.dsn) as connection:
        for change in PLANTED.values():
            await connection.execute(change)
        positions = await connection.fetch("SELECT * FROM sink_positions")
        done = await rebuild(here).run()
        assert done.retired is None
        assert {(one.table, one.key) for one in done.differences} == PLANTED.keys()
        by_table = {one.table: one for one in done.differences}
        assert by_table["entries"].live is None
        assert '"held":7' in str(by_table["account_counters"].live)
        assert '"held":0' in str(by_table["account_counters"].rebuilt)
        assert await schemas(here) == ["ledgerline", REBUILT]
        assert await connection.fetch("SELECT * FROM sink_positions") == positions

        await connection.execute("UPDATE decisions SET reason = 'wrong'")
        assert len((await rebuild(here).run()).differences) == MAX_DIFFERENCES
    done = await rebuild(here, accept_differences=True).run()
    assert len(done.differences) == MAX_DIFFERENCES
    assert await schemas(here) == ["ledgerline", done.retired]
    await proved(here)


async def test_a_row_that_is_changed_while_the_rebuild_compares_is_found_before_the_switch(
    here: Ledger, tmp_path: Path
) -> None:
    class Planting(Rebuild):
        async def hold(self, switch: Switch) -> None:
            async with session(self.dsn) as connection:
                await connection.execute("UPDATE decisions SET reason = 'wrong' WHERE request_id = 'late'")
            await super().hold(switch)

    async with streaming(here, tmp_path) as stream:

        class Late(Planting):
            async def compare(self, second: SecondSink, comparison: Comparison) -> int:
                found = await super().compare(second, comparison)
                await here.send(0, [here.request(here.payer(0), "close_account", "late")])
                await stream.written()
                return found

        done = await Late(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn).run()
        assert done.retired is None
        assert [one.table for one in done.differences] == ["decisions"]
        await stream.ask(3)
        await stream.written()
    assert await schemas(here) == ["ledgerline", REBUILT]


class Ran(NamedTuple):
    code: int | None
    out: str
    err: str


async def command(*arguments: str) -> Ran:
    """``ledgerline *arguments`` in a process of its own, so that its logs are configured for it alone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ledgerline.cli.app", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return Ran(process.returncode, out.decode(), err.decode())


async def test_the_command_tells_people_and_programs_how_it_ended(
    here: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGERLINE_KAFKA", here.kafka)
    monkeypatch.setenv("LEDGERLINE_POSTGRES", here.dsn)
    monkeypatch.setenv("LEDGERLINE_PREFIX", here.prefix)
    nothing = await command("rebuild")
    assert nothing.code == 3
    assert "no sink has ever written here" in nothing.err
    async with streaming(here, tmp_path):
        pass
    async with session(here.dsn) as connection:
        await connection.execute("UPDATE account_counters SET held = 7 WHERE account_key = 2")
    refused = await command("rebuild")
    assert refused.code == 1
    assert "NOT SWITCHED: " in refused.out
    assert "account_counters account_key 2\n  live     {" in refused.out
    assert '"held":7' in refused.out.replace(" ", "")
    assert "nothing was switched" in refused.err
    plain = orjson.loads((await command("rebuild", "--json")).out)
    assert plain["switched"] is False
    (difference,) = plain["differences"]
    assert (difference["live"]["held"], difference["rebuilt"]["held"]) == (7, 0)
    done = await command("rebuild", "--accept-differences")
    assert done.code == 0
    assert "rebuilt: " in done.out
    assert "DROP SCHEMA ledgerline_retired_" in done.out
    assert (await command("balance", here.payer(0))).code == 0


async def test_a_second_rebuild_at_the_same_time_is_refused(here: Ledger, tmp_path: Path) -> None:
    async with streaming(here, tmp_path):
        rebuilds = [asyncio.create_task(rebuild(here).run()) for _ in range(2)]
        ended = await asyncio.gather(*rebuilds, return_exceptions=True)
    refused = [one for one in ended if isinstance(one, RebuildRefused)]
    assert len(refused) == 1, ended
    assert "another rebuild of this ledger is running (session " in str(refused[0])
    await proved(here)


TIED = {
    "ledgerline.by_amount": "CREATE INDEX by_amount ON posting_rows (amount_minor)",
    "ledgerline.mine": "CREATE TABLE mine (a int)",
    "function ledgerline.noon": "CREATE FUNCTION noon() RETURNS int LANGUAGE sql AS 'SELECT 12'",
    "function public.legs()": "CREATE FUNCTION public.legs() RETURNS bigint LANGUAGE sql"
    " BEGIN ATOMIC SELECT count(*) FROM ledgerline.posting_rows; END",
    "trigger watched on entries": "CREATE TRIGGER watched AFTER INSERT ON entries EXECUTE FUNCTION refuse_gap()",
    "policy own on decision_rows": "CREATE POLICY own ON decision_rows USING (account_id = current_user)",
    "view public.rich": "CREATE VIEW public.rich AS SELECT * FROM ledgerline.balances WHERE balance_minor > 0",
    "foreign key of_entry of public.notes": "CREATE TABLE public.notes (partition int, seq bigint,"
    " CONSTRAINT of_entry FOREIGN KEY (partition, seq) REFERENCES ledgerline.entries)",
    "publication all_of_it of schema ledgerline": "CREATE PUBLICATION all_of_it FOR TABLES IN SCHEMA ledgerline",
    "publication decided of decision_rows": "CREATE PUBLICATION decided FOR TABLE decision_rows",
}


async def test_what_would_silently_go_on_with_the_old_rows_is_named_first(here: Ledger, tmp_path: Path) -> None:
    async with streaming(here, tmp_path):
        pass
    async with session(here.dsn) as connection:
        for statement in TIED.values():
            await connection.execute(statement)
        with pytest.raises(RebuildRefused, match=": a switch would leave that with the old rows") as refused:
            await rebuild(here).run()
        named = str(refused.value).partition("found ")[2].partition(": a switch")[0].split(", ")
        assert sorted(named) == sorted(TIED)
        assert not [name for name in await schemas(here) if "retired" in name]


async def test_owners_and_grants_also_those_added_by_hand_survive_a_switch_by_a_login_that_is_no_superuser(
    here: Ledger, tmp_path: Path
) -> None:
    async with streaming(here, tmp_path):
        pass
    name = f"operator_{secrets.token_hex(4)}"
    rights = (
        "SELECT c.relname, a.grantee::regrole::text, a.privilege_type, a.is_grantable FROM pg_class AS c,"
        " aclexplode(c.relacl) AS a WHERE c.relnamespace = 'ledgerline'::regnamespace UNION ALL "
        "SELECT c.relname || '.' || t.attname, a.grantee::regrole::text, a.privilege_type, a.is_grantable"
        " FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid, aclexplode(t.attacl) AS a"
        " WHERE c.relnamespace = 'ledgerline'::regnamespace UNION ALL "
        "SELECT nspname, a.grantee::regrole::text, a.privilege_type, a.is_grantable FROM pg_namespace,"
        " aclexplode(nspacl) AS a WHERE nspname = 'ledgerline' ORDER BY 1, 2, 3"
    )
    async with session(here.dsn) as connection:
        owners = "SELECT relname, relowner::regrole::text FROM pg_class WHERE relnamespace = 'ledgerline'::regnamespace"
        await connection.execute("GRANT USAGE ON SCHEMA ledgerline TO pg_monitor")
        await connection.execute("GRANT SELECT ON balances TO pg_monitor WITH GRANT OPTION")
        await connection.execute("GRANT SELECT (request_id, status) ON decisions TO PUBLIC")
        before, owned = await connection.fetch(rights), set(await connection.fetch(owners))
        await connection.execute(
            f"CREATE ROLE {name} LOGIN IN ROLE ledgerline_owner, ledgerline_writer, ledgerline_reader;"
            f'GRANT CREATE ON DATABASE "{urlsplit(here.dsn).path[1:]}" TO {name}'
        )
        dsn = urlunsplit(urlsplit(here.dsn)._replace(netloc=f"{name}@"))
        assert (await Rebuild(kafka=here.kafka, prefix=here.prefix, dsn=dsn).run()).retired is not None
        assert await connection.fetch(rights) == before
        assert set(await connection.fetch(owners)) == owned
        await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize("also", ["SELECT 1", "UPDATE sink_positions SET at = at WHERE partition = 1"])
async def test_a_session_in_a_transaction_delays_the_switch_and_others_keep_reading(
    here: Ledger, tmp_path: Path, also: str
) -> None:
    async with streaming(here, tmp_path) as stream, session(here.dsn) as slow, session(here.dsn) as other:
        await slow.execute("SET idle_in_transaction_session_timeout = 0")
        await slow.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await slow.execute(also)
        balance = "SELECT sum(balance_minor)::bigint FROM balances WHERE account_id = $1"
        before = await slow.fetchval(balance, here.payer(0))
        attempts: list[Switch] = []

        class Counting(Rebuild):
            async def hold(self, switch: Switch) -> None:
                attempts.append(switch)
                await super().hold(switch)

        running = asyncio.create_task(Counting(kafka=here.kafka, prefix=here.prefix, dsn=here.dsn).run())

        async def has_given_up_once() -> bool:
            async with asyncio.timeout(2):
                assert await other.fetchval(balance, here.payer(0)) is not None
            return len(attempts) == 2 or running.done()

        assert await until(has_given_up_once)
        await stream.ask(2)
        assert not running.done()
        assert await slow.fetchval(balance, here.payer(0)) == before
        await slow.execute("COMMIT")
        assert (await running).retired is not None
        await stream.written()
    await proved(here)
