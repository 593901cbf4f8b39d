"""Which failures of PostgreSQL are waited out, and which stop the partition."""

from __future__ import annotations

import asyncpg
import pytest

from sinks.postgres.errors import PostgresRefused, PostgresUnavailable
from sinks.postgres.session import failures


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection due to idle-in-transaction timeout"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_or_silent_server_is_tried_again(error: Exception) -> None:
    with pytest.raises(PostgresUnavailable, match="write seq 7"), failures("write seq 7"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError("duplicate key value"),
        asyncpg.CheckViolationError("violates check constraint"),
        asyncpg.NumericValueOutOfRangeError("bigint out of range"),
        asyncpg.RaiseError("entry 3-7 does not balance"),
        asyncpg.DataError("value out of int64 range"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_database_will_never_take_is_refused(error: Exception) -> None:
    with pytest.raises(PostgresRefused, match="write seq 7"), failures("write seq 7"):
        raise error


def test_a_defect_of_ours_is_neither() -> None:
    with pytest.raises(KeyError), failures("write seq 7"):
        raise KeyError("a bug")
