from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest

from schemas.bounds import MAX_AMOUNT_MINOR, MAX_COUNTER
from schemas.events import Answer, Leg
from sinks.postgres.errors import Deposed, ForeignLedger, PostgresRefused, PostgresUnavailable
from sinks.postgres.readers import sink_position, wait_for
from sinks.postgres.rows import Batch
from sinks.postgres.session import SCHEMA, session
from sinks.postgres.store import Owner, PartitionStore, PositionMoved, claim_ledger
from tests.sinks.following import Direct, writers
from tests.sinks.journals import LEDGER, Journal, payments

if TYPE_CHECKING:
    from sinks.postgres.session import Connection

pytestmark = pytest.mark.integration
OTHER = "00000000-0000-4000-8000-000000000002"


async def rows(dsn: str, query: str, *arguments: object) -> list[tuple[object, ...]]:
    async with session(dsn) as connection:
        return [tuple(row.values()) for row in await connection.fetch(query, *arguments)]


async def test_every_kind_of_event_can_be_stored_and_outcomes_keep_their_bytes(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    lease = journal.lease()
    journal.config()
    journal.open("a")
    journal.open("loan", side="debit", floor=0)
    journal.deposit("a", MAX_AMOUNT_MINOR)
    journal.transfer("a", "loan", 1250, 10, 3)
    journal.declined("a")
    journal.unreadable()
    journal.unreadable(b'{"found":"a\\u0000b","\\u0000":"\\\\u0000"}')
    journal.replay("a", 4)
    journal.skip()
    journal.terms("a", floor=-MAX_AMOUNT_MINOR, ceiling=MAX_AMOUNT_MINOR, frozen=True)
    journal.config(refused=True)
    blocks, after = direct.read(lease, journal.block())
    async with writers(database) as pool:
        await (await direct.take(pool)).write(blocks, after)

    expected = [
        (seq, bytes(blocks[0].raw[e.outcome[0] : e.outcome[0] + e.outcome[1]]).decode())
        for seq, e in enumerate(blocks[0].events, 1)
        if isinstance(e, Answer) and e.outcome[0] is not None
    ]
    assert await rows(database, "SELECT seq, outcome::text FROM decisions ORDER BY seq") == expected
    [(explanation,)] = await rows(database, "SELECT explanation::text FROM decisions WHERE seq = 8")
    assert orjson.loads(str(explanation)) == {"found": "a\ufffdb", "\ufffd": "\\u0000"}
    [unreadable] = await rows(
        database, "SELECT request_id, account_id, type, status, binding FROM decisions WHERE seq = 7"
    )
    assert unreadable == (None, None, None, "rejected", False)
    assert await rows(database, "SELECT seq, verdict, version FROM config_pickups ORDER BY seq") == [
        (1, "active", "default-1"),
        (12, "refused", None),
    ]
    assert await rows(database, "SELECT seq, reason FROM skips") == [(10, "unsupported")]
    assert await rows(database, "SELECT seq, leg_count, type, request_id FROM entries ORDER BY seq") == [
        (4, 2, "deposit", "r-4"),
        (5, 6, "transfer", "r-5"),
    ]
    assert await rows(
        database, "SELECT leg, account_id, side, amount_minor FROM postings WHERE seq = 5 ORDER BY leg"
    ) == [
        (1, "a", "debit", 1250),
        (2, "a", "debit", 10),
        (3, "a", "debit", 3),
        (4, "loan", "credit", 1250),
        (5, "sys:fees:EUR", "credit", 10),
        (6, "sys:fees:EUR", "credit", 3),
    ]
    assert await rows(database, 'SELECT * FROM balances ORDER BY account_id COLLATE "C"') == [
        ("a", 3, "EUR", 1263, 10**15, 0, 10**15 - 1263, 2 * 10**15 - 1263, 11),
        ("loan", 3, "EUR", 0, 1250, 0, -1250, 1250, 5),
        ("sys:external:sepa:EUR", 3, "EUR", 10**15, 0, 0, -(10**15), None, 4),
        ("sys:fees:EUR", 3, "EUR", 0, 13, 0, 13, None, 5),
    ]
    [account] = await rows(
        database,
        "SELECT status, tier, floor_minor, ceiling_minor, attributes::text FROM accounts WHERE account_id = 'a'",
    )
    assert account[:4] == ("frozen", "standard", -(10**15), 10**15)
    assert orjson.loads(str(account[4])) == {"note": "ä\n", "vip": True, "age": 7}


async def test_the_views_balance_and_the_statement_runs(database: str) -> None:
    async with writers(database) as pool:
        for partition in (1, 3):
            journal = Journal(partition)
            direct = Direct(journal)
            blocks, after = direct.read(*payments(journal, blocks=5, per_block=40))
            await (await direct.take(pool)).write(blocks, after)
    assert await rows(database, "SELECT currency, sum(balance_minor)::bigint FROM trial_balance GROUP BY 1") == [
        ("EUR", 0)
    ]
    [(external,)] = await rows(
        database, "SELECT debits_posted FROM trial_balance WHERE account_id = 'sys:external:sepa:EUR'"
    )
    assert external == 2 * 20 * 10**9, "system accounts are summed over the partitions"
    assert await rows(database, "SELECT * FROM unproved_balances") == []
    last = await rows(
        database,
        "SELECT DISTINCT ON (account_id, partition) account_id, partition, balance_minor FROM statement "
        "WHERE account_id LIKE 'acc-%' ORDER BY account_id, partition, seq DESC, leg DESC",
    )
    assert last == await rows(
        database,
        "SELECT account_id, partition, balance_minor FROM balances WHERE account_id LIKE 'acc-%' ORDER BY account_id",
    )
    plan = await rows(database, "EXPLAIN SELECT * FROM statement WHERE account_id = 'acc-3-1'")
    assert any("account_terms_account_id_partition_key" in str(line) for line in plan), "the account reaches its index"


async def test_a_balance_names_the_last_event_that_touched_it_over_all_batches(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    async with writers(database) as pool:
        store = await direct.take(pool)
        for message in payments(journal, blocks=3, per_block=30):
            await store.write(*direct.read(message))
    wrong_seq = await rows(
        database,
        "SELECT account_id FROM balances AS b WHERE seq <> (SELECT max(seq) FROM postings AS p "
        "WHERE p.account_id = b.account_id AND p.partition = b.partition)",
    )
    assert wrong_seq == []


async def test_a_balance_that_its_postings_do_not_prove_is_shown(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    blocks, after = direct.read(*payments(journal, blocks=1, per_block=10))
    async with writers(database) as pool:
        await (await direct.take(pool)).write(blocks, after)
    async with session(database) as connection:
        await connection.execute(
            "UPDATE account_counters SET credits_posted = credits_posted + 1 WHERE account_key & 31 = 2"
        )
        await connection.execute("DELETE FROM account_counters WHERE account_key & 31 = 3")
    unproved = await rows(
        database, "SELECT credits_posted, credits_by_postings FROM unproved_balances ORDER BY account_id"
    )
    assert len(unproved) == 2


@pytest.mark.parametrize(
    "legs",
    [
        [("a", "debit", 5, "EUR"), ("b", "credit", 6, "EUR")],
        [("a", "debit", 5, "EUR"), ("b", "debit", 5, "EUR")],
        [("a", "debit", 5, "EUR"), ("b", "credit", 5, "USD")],
        [("a", "debit", 5, "EUR"), ("b", "credit", 5, "EUR"), ("a", "credit", 1, "USD"), ("b", "debit", 2, "USD")],
    ],
)
async def test_an_entry_that_does_not_balance_per_currency_is_refused_whole(database: str, legs: list[Leg]) -> None:
    journal = Journal()
    direct = Direct(journal)
    lease = journal.lease()
    journal.open("a")
    journal.open("b")
    journal.transfer("a", "b", 1)
    journal.legs(*legs)
    blocks, after = direct.read(lease, journal.block())
    async with writers(database) as pool:
        store = await direct.take(pool)
        with pytest.raises(PostgresRefused, match=r"entry 3-4: expected [24] legs from 1 on that balance"):
            await store.write(blocks, after)
    assert await rows(database, "SELECT * FROM decisions") == []
    assert await rows(database, "SELECT seq FROM sink_positions") == [(0,)]


async def test_an_entry_in_two_currencies_that_balances_in_each_is_accepted(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    lease = journal.lease()
    journal.open("a")
    journal.open("b")
    legs: list[Leg] = [("a", "debit", 5, "EUR"), ("a", "debit", 2, "USD")]
    journal.legs(*legs, ("b", "credit", 5, "EUR"), ("b", "credit", 2, "USD"))
    blocks, after = direct.read(lease, journal.block())
    async with writers(database) as pool:
        await (await direct.take(pool)).write(blocks, after)
    assert await rows(database, "SELECT leg_count FROM entries") == [(4,)]


async def test_an_entry_of_a_single_leg_is_refused(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    lease = journal.lease()
    journal.open("a")
    journal.legs(("a", "debit", 5, "EUR"))
    blocks, after = direct.read(lease, journal.block())
    async with writers(database) as pool:
        store = await direct.take(pool)
        with pytest.raises(PostgresRefused, match="leg_count"):
            await store.write(blocks, after)


class Forgetful(PartitionStore):
    """Breaks its rows on purpose before they are copied."""

    forget = "decisions"

    async def copy_rows(self, connection: Connection, batch: Batch) -> None:
        getattr(batch, self.forget).pop()
        await super().copy_rows(connection, batch)


@pytest.mark.parametrize("forget", ["entries", "postings", "decisions"])
async def test_a_batch_that_lacks_a_row_cannot_be_committed(database: str, forget: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    blocks, after = direct.read(*payments(journal, blocks=2, per_block=10))
    async with writers(database) as pool:
        store = await direct.take(pool, type("Broken", (Forgetful,), {"forget": forget}))
        with pytest.raises(PostgresRefused, match="expected"):
            await store.write(blocks, after)
    assert await rows(database, "SELECT seq FROM sink_positions") == [(0,)]


async def test_nothing_can_be_added_to_an_entry_that_is_written(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    blocks, after = direct.read(*payments(journal, blocks=1, per_block=10))
    async with writers(database) as pool:
        await (await direct.take(pool)).write(blocks, after)
    async with session(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match=r"expected 2 legs from 1 on .* got 2 legs up to 12"):
            await connection.execute(
                "INSERT INTO posting_rows SELECT seq, account_key, 1, partition, leg + 10, is_debit, currency "
                "FROM posting_rows WHERE seq = 3"
            )


async def test_a_zombie_with_an_old_sink_epoch_commits_nothing(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    messages = payments(journal, blocks=2, per_block=10)
    async with writers(database) as pool:
        zombie = await direct.take(pool)
        first, behind_first = direct.read(*messages[:2])
        await zombie.write(first, behind_first)
        owner = await direct.take(pool)
        assert owner.position == behind_first
        assert owner.sink_epoch == zombie.sink_epoch + 1
        blocks, after = direct.read(*messages[2:])
        with pytest.raises(PositionMoved):
            await zombie.write(blocks, after)
        with pytest.raises(Deposed, match="expected my sink_epoch 1, found 2"):
            await zombie.reread()
        await owner.write(blocks, after)
    assert await rows(database, "SELECT seq FROM sink_positions") == [(journal.seq,)]
    assert await rows(database, "SELECT * FROM unproved_balances") == []


class LostAnswer(PartitionStore):
    """Commits, and never hears of it."""

    async def commit(self, connection: Connection) -> None:
        await super().commit(connection)
        raise ConnectionResetError("the answer to COMMIT is lost")


async def test_a_lost_answer_to_commit_is_found_in_the_row_and_nothing_is_written_twice(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    blocks, after = direct.read(*payments(journal, blocks=2, per_block=10))
    async with writers(database) as pool:
        store = await direct.take(pool, LostAnswer)
        before = store.position
        with pytest.raises(PostgresUnavailable, match="lost"):
            await store.write(blocks, after)
        assert store.position == before
        with pytest.raises(PositionMoved):  # sent again without asking: the position is the guard
            await store.write(blocks, after)
        await store.reread()
        assert store.position == after
    assert await rows(database, "SELECT count(*) FROM decisions") == [(journal.seq - 1,)]


async def test_keys_are_the_same_however_the_journal_is_cut_into_batches(database: str) -> None:
    keys = "SELECT account_key, account_id FROM {}.account_terms ORDER BY account_key"
    async with session(database) as connection:
        await connection.execute("CREATE TABLE first (account_key bigint, account_id text)")
        for size in (1, 4):
            journal = Journal()
            direct = Direct(journal)
            messages = payments(journal, blocks=3, per_block=30)
            async with writers(database) as pool:
                store = await direct.take(pool)
                for n in range(0, len(messages), size):
                    blocks, after = direct.read(*messages[n : n + size])
                    await store.write(blocks, after)
                    if n == 2:
                        await store.reread()  # forgets the keys it knew
            if size == 1:
                await connection.execute("INSERT INTO first " + keys.format(SCHEMA))
                tables = (
                    "decision_rows, entries, posting_rows, config_pickups, account_terms, account_counters, "
                    "sink_positions"
                )
                await connection.execute(f"TRUNCATE {tables}")
        assert await connection.fetch("SELECT * FROM first") == await connection.fetch(keys.format(SCHEMA))


async def test_a_schema_serves_one_ledger_and_one_sink_id(database: str) -> None:
    async with writers(database) as pool:
        mine = Owner(sink_id="main", ledger_id=LEDGER, partition=3)
        await asyncio.gather(*(claim_ledger(pool, SCHEMA, mine, 4) for _ in range(4)))
        for other in (
            Owner(sink_id="main", ledger_id=OTHER, partition=3),
            Owner(sink_id="b", ledger_id=LEDGER, partition=3),
        ):
            with pytest.raises(ForeignLedger, match="nothing was written"):
                await claim_ledger(pool, SCHEMA, other, 4)
        with pytest.raises(ForeignLedger, match="with 4 partitions"):
            await claim_ledger(pool, SCHEMA, mine, 8)


async def test_two_that_take_a_partition_at_once_get_different_sink_epochs(database: str) -> None:
    async with writers(database, connections=4) as pool:
        taken = await asyncio.gather(*(Direct(Journal()).take(pool) for _ in range(4)))
    assert sorted(store.sink_epoch for store in taken) == [1, 2, 3, 4]


async def test_a_taker_waits_no_longer_than_the_lock_timeout_for_a_stopped_sink(database: str) -> None:
    direct = Direct(Journal())
    async with writers(database) as pool, session(database) as stopped:
        await direct.take(pool)
        await stopped.execute("BEGIN")
        await stopped.execute("UPDATE sink_positions SET seq = seq")
        with pytest.raises(PostgresUnavailable, match="55P03"):
            await direct.take(pool)


async def test_the_witness_is_the_stored_position_of_this_ledger_only(database: str, postgres: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    assert await sink_position(postgres, ledger_id=LEDGER, partition=3) is None
    assert await sink_position(database, ledger_id=LEDGER, partition=3) is None
    blocks, after = direct.read(*payments(journal, blocks=1, per_block=10))
    async with writers(database) as pool:
        await (await direct.take(pool)).write(blocks, after)
    assert await sink_position(database, ledger_id=LEDGER, partition=3) == after
    assert await sink_position(database, ledger_id=LEDGER, partition=2) is None
    with pytest.raises(ForeignLedger):
        await sink_position(database, ledger_id=OTHER, partition=3)


async def test_a_reader_that_waits_too_long_is_told_how_far_the_sink_got(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    blocks, after = direct.read(*payments(journal, blocks=1, per_block=10))
    with pytest.raises(TimeoutError, match="found no sink"):
        await wait_for(database, partition=3, seq=1, timeout_s=0.0)
    async with writers(database) as pool:
        await (await direct.take(pool)).write(blocks, after)
    await wait_for(database, partition=3, seq=journal.seq, timeout_s=0.0)
    with pytest.raises(TimeoutError, match=f"expected seq {journal.seq + 1} .* found seq {journal.seq}"):
        await wait_for(database, partition=3, seq=journal.seq + 1, timeout_s=0.0)


async def test_a_counter_that_would_reach_its_bound_is_refused(database: str) -> None:
    journal = Journal()
    direct = Direct(journal)
    lease = journal.lease()
    journal.open("a")
    journal.legs(("a", "debit", MAX_COUNTER, "EUR"), ("a", "credit", MAX_COUNTER, "EUR"))
    blocks, after = direct.read(lease, journal.block())
    async with writers(database) as pool:
        with pytest.raises(PostgresRefused, match="account_counters"):
            await (await direct.take(pool)).write(blocks, after)
