"""The console blocks of the pages in ``docs``, run on a real ledger of their own (how: ``tests/docs/console.py``)."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from ledgerline.settings import database_name
from tests.docs.console import (
    ROOT,
    clean_copy,
    commands,
    environment_in,
    missing_line,
    names,
    pages,
    run,
    with_free_ports,
)
from tests.ledgerline.verify.topics import delete_topics

WITHIN_S = 240
PARTITIONS = 4
BLOCKS = [(page.name, name) for page in pages() if page.parent == ROOT / "docs" for name in names(page)]


@pytest.fixture
def copy() -> Iterator[Path]:
    with clean_copy() as folder:
        yield folder


@pytest.fixture
async def prefix(kafka: str, postgres: str) -> AsyncIterator[str]:
    """Of a ledger that the page may create; its topics and database are gone afterwards."""
    chosen = f"page-{secrets.token_hex(4)}."
    yield chosen
    await delete_topics(kafka, chosen)
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {database_name(chosen)} WITH (FORCE)")
    finally:
        await connection.close()


@pytest.mark.integration
@pytest.mark.parametrize(("page", "name"), BLOCKS)
def test_the_console_blocks_of_a_page_work_and_print_what_it_shows(
    page: str, name: str, copy: Path, prefix: str, stack_home: Path
) -> None:
    listed = with_free_ports(commands(copy / "docs" / page, name))
    settings = {
        "LEDGERLINE_HOME": str(stack_home),
        "LEDGERLINE_PREFIX": prefix,
        "LEDGERLINE_PARTITIONS": str(PARTITIONS),
    }
    ran = run(listed, folder=copy, environment=environment_in(copy, settings), within_s=WITHIN_S)
    assert ran.code == 0, ran.printed
    for command, output in zip(listed, ran.outputs, strict=True):
        missing = missing_line(command.shown, output)
        assert missing is None, f"{command.text}: the page shows {missing!r}, not printed:\n{ran.printed}"
