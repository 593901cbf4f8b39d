"""What ends or delays a sink's work: what, where, expected, got, what happens next."""

from __future__ import annotations


class PostgresUnavailable(Exception):
    """No answer, connection or room, a lock or a time-out: the same may succeed later. Lag grows, nothing is lost."""


class PostgresRefused(Exception):
    """The database refuses what the journal says: constraint, trigger or type. Trying again would be refused again."""


class ForeignLedger(Exception):
    """The schema holds the rows of another ledger, or of another sink_id. Nothing was written."""

    def __init__(self, schema: str, expected: str, found: str) -> None:
        super().__init__(
            f"schema {schema!r}: expected the rows of {expected}, found those of {found}; nothing was written: use a "
            "database of its own for each ledger, and a schema of its own for each sink_id"
        )


class SchemaMismatch(Exception):
    """The schema is missing, or older or newer than this program."""

    def __init__(self, schema: str, expected: int, found: int) -> None:
        found_text = f"migration {found}" if found else "no ledger"
        then = "install a newer Ledgerline" if found > expected else "run `ledgerline init`"
        super().__init__(f"schema {schema!r}: expected it at migration {expected}, found {found_text}; {then}")
        self.expected, self.found = expected, found


class Deposed(Exception):
    """Another sink has taken the partition: this one leaves it; nothing of its last batch counts."""

    def __init__(self, partition: int, mine: int, found: int) -> None:
        super().__init__(
            f"Deposed: partition {partition}: expected my sink_epoch {mine}, found {found}; this sink leaves the "
            "partition, nothing of its last batch counts"
        )
