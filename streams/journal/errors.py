"""What ends a reader's or writer's work on a partition, each with what, where, expected, got, and what happens next.

``JournalLoss``, ``Corruption``, ``TooOld`` halt the partition (a person is needed). ``Fenced`` and ``Diverged`` are
part of normal life: step down, or drop the state and restore. I/O trouble is ``streams.journal.log.LogUnavailable``.
"""

from __future__ import annotations


class JournalHalt(Exception):
    """The partition stops and says so; nothing that was read or decided after this point counts. Others go on."""

    def __init__(self, where: str, offset: int | None, expected: str, got: str, then: str) -> None:
        at = where if offset is None else f"{where} offset {offset}"
        super().__init__(f"{type(self).__name__}: {at}: expected {expected}, got {got}; {then}")
        self.where = where  # "<topic>[<partition>]"
        self.offset = offset  # None where it concerns the whole log
        self.expected = expected
        self.got = got


class JournalLoss(JournalHalt):
    """Records that were acknowledged or read are no longer in the journal, or others are in their place."""

    def __init__(self, where: str, offset: int | None, expected: str, got: str) -> None:
        then = (
            "the partition halts: records have been lost or replaced; compare the replicas, see docs/journal-format.md"
        )
        super().__init__(where, offset, expected, got, then)


class Corruption(JournalHalt):
    """A record that no writer of this protocol can have written at this place."""

    def __init__(self, where: str, offset: int | None, expected: str, got: str) -> None:
        then = "the partition halts: look at the record with `ledgerline journal`, see docs/journal-format.md"
        super().__init__(where, offset, expected, got, then)


class TooOld(JournalHalt):
    """The journal is in a newer format than this program reads. Nothing is wrong with the journal."""

    def __init__(self, where: str, offset: int | None, highest: int, got: int) -> None:
        super().__init__(where, offset, f"format {highest} or lower", f"format {got}", "install a newer Ledgerline")


class WrongLedger(JournalHalt):
    """The journal belongs to another ledger, or to another partition or partition count."""

    def __init__(self, where: str, expected: str, got: str) -> None:
        super().__init__(where, 0, expected, got, "check LEDGERLINE_KAFKA and LEDGERLINE_PREFIX")


class Fenced(Exception):
    """Another writer's lease is in force: this one no longer owns the partition; what it has not seen valid is void."""

    def __init__(self, where: str, offset: int, mine: int, winner: int, owner: str) -> None:
        super().__init__(
            f"Fenced: {where}: expected my lease of epoch {mine} in force, found one of epoch {winner} by {owner!r} "
            f"up to offset {offset}; this worker steps down from {where}"
        )
        self.winner = winner
        self.owner = owner


class Diverged(Exception):
    """After a re-take the journal ends neither before nor after my block: drop the state in memory and restore it."""

    def __init__(self, where: str, expected: str, got: str) -> None:
        super().__init__(
            f"Diverged: {where}: expected the journal at {expected}, got {got}; drop the state and restore"
        )


class NoGenesis(JournalHalt):
    """The journal is empty: the ledger has not been initialised. A worker never writes a genesis."""

    def __init__(self, where: str) -> None:
        super().__init__(where, 0, "a genesis", "an empty journal", "run `ledgerline init`")
