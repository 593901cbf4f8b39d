"""What all tests share: one Kafka and one PostgreSQL for the whole run, and Hypothesis without a clock.

The stack is the project's own, started by the first test that needs it in a home of its own and torn down at the end.
While developing, ``LEDGERLINE_TEST_HOME`` names a home whose stack is used (started if need be) and left running.
``LEDGERLINE_KAFKA`` and ``LEDGERLINE_POSTGRES`` name other servers.
"""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from ledgerline.settings import Settings
from ledgerline.stack import local
from ledgerline.stack.layout import layout

hypothesis.settings.register_profile("ledgerline", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ledgerline")


@pytest.fixture(autouse=True)
def _logs_of_each_test() -> Iterator[None]:
    """A test that configures logs sends them to a stream that ends with it; the next one begins without."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def stack_home() -> Iterator[Path]:
    """The home of the run's stack. Its path is short: PostgreSQL's socket lies in it."""
    kept = os.environ.get("LEDGERLINE_TEST_HOME")
    if kept:
        yield Path(kept).resolve()
        return
    home = Path(tempfile.mkdtemp(prefix="ledgerline-test-")).resolve()
    yield home
    files = layout(home, Settings().cache)
    local.down(files, _report)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def kafka(stack_home: Path) -> str:
    """Bootstrap address of a real Kafka."""
    given = Settings().kafka
    if given is not None:
        return given
    stack, _ = local.up(layout(stack_home, Settings().cache), _report, with_postgres=False)
    assert stack.kafka is not None
    return stack.kafka.address


@pytest.fixture(scope="session")
def postgres(stack_home: Path) -> str:
    """DSN of the admin database of a real PostgreSQL; tests create databases of their own beside it."""
    given = Settings().postgres
    if given is not None:
        return given.get_secret_value()
    stack, _ = local.up(layout(stack_home, Settings().cache), _report, with_kafka=False)
    assert stack.postgres is not None
    return stack.postgres.address


def _report(line: str) -> None:
    """Show the first download, which can take a minute, even while pytest captures output."""
    if "downloading" in line and sys.__stderr__ is not None:
        print(line, file=sys.__stderr__, flush=True)
