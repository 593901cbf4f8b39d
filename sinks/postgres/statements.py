"""The SQL of ``sql/``, read once: every statement stands there with the reason for it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

SQL: Final = Path(__file__).parent / "sql"

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Migration(NamedTuple):
    """One numbered file of ``sql/migrations``. It is never edited once it was released."""

    number: int
    name: str
    text: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations in order, numbered from 1 without a gap."""
    found = tuple(
        Migration(int(file.name[:4]), file.stem, file.read_text())
        for file in sorted((SQL / "migrations").glob("*.sql"))
    )
    assert [m.number for m in found] == list(range(1, len(found) + 1)), f"numbered from 1: {[m.name for m in found]}"
    return found


@cache
def statement(name: str) -> str:
    """The statement called *name*; names are those of ``sql/statements.sql``, ``queries.sql`` and ``rebuild.sql``."""
    return _statements()[name]


@cache
def roles() -> str:
    """What creates the roles."""
    return (SQL / "roles.sql").read_text()


@cache
def _statements() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in ("statements.sql", "queries.sql", "rebuild.sql"):
        _, *parts = _NAME.split((SQL / file).read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            assert name not in found, f"{file}: {name} stands twice"
            found[name] = text.strip()
    return found
