"""Writing the genesis of a partition's journal: what `init` does, and no worker ever."""

from __future__ import annotations

from schemas.events import Genesis, encode_genesis
from streams.journal.errors import JournalLoss, WrongLedger
from streams.journal.follower import FETCH_WAIT_S
from streams.journal.framing import GenesisHeaders, encode_headers
from streams.journal.log import AppendUnknown, Log, LogUnavailable
from streams.journal.reading import Reader


async def existing_genesis(log: Log) -> Genesis | None:
    """The genesis of this journal, None if it is empty.

    An interrupted `init` goes on with the ledger_id and `at` of it.


    Raises: JournalLoss if the log starts above 0; Corruption, TooOld if offset 0 holds no genesis; LogUnavailable.
    """
    start = await log.start_offset()
    if start > 0:
        raise JournalLoss(log.where, 0, "a log that is kept from offset 0", f"log start {start}")
    if await log.end_offset() == 0:
        return None
    records = (await log.fetch(0, FETCH_WAIT_S)).records
    if not records:
        raise LogUnavailable(f"{log.where}: expected the genesis at offset 0, got nothing within {FETCH_WAIT_S} s")
    return Reader(log.where, records[0]).genesis


async def ensure_genesis(log: Log, genesis: Genesis, attempts: int = 5) -> Genesis:
    """Write *genesis* at offset 0 unless there is one, and return the one in force: that which was there wins.

    A lost acknowledgement may leave a second copy of the same bytes, which readers skip. Two `init` with different
    ledger_ids at the same moment could leave two different ones, which every reader refuses.

    Raises: WrongLedger if the one in force is of another ledger, partition, partition count or format; JournalLoss;
    Corruption; TooOld; LogUnavailable if the genesis could not be written in *attempts*.
    """
    found = await existing_genesis(log)
    while found is None:
        try:
            await log.append(encode_headers(GenesisHeaders(format=genesis.format)), encode_genesis(genesis))
        except AppendUnknown:
            attempts -= 1
            if attempts == 0:
                raise
        found = await existing_genesis(log)
    for name in ("ledger_id", "partition", "partitions", "format"):
        wanted, is_there = getattr(genesis, name), getattr(found, name)
        if wanted != is_there:
            raise WrongLedger(log.where, f"{name} {wanted}", f"{is_there}")
    return found
