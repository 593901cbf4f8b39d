"""A sink process that stops inside its second batch, for tests that kill it there.

    python -m tests.sinks.stopping_sink KAFKA PREFIX DSN PARTITION STEP

STEP is the method of ``PartitionStore`` behind which it stops; it then prints ``stopped`` and waits for input: a line
lets it go on. ``take`` stops behind the taking of the partition.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from sinks.postgres.sink import Sink
from sinks.postgres.store import PartitionStore
from streams.membership import StaticMembership


async def _stop_here() -> None:
    print("stopped", flush=True)  # noqa: T201  # the parent waits for it
    await asyncio.to_thread(sys.stdin.readline)


def stopping_behind(step: str) -> type[PartitionStore]:
    """A store that stops behind *step*, once: at the taking, or in its second batch."""
    calls = 0
    plain: Callable[..., Awaitable[Any]] = getattr(PartitionStore, step)

    async def stopping(*arguments: Any) -> Any:
        nonlocal calls
        result = await plain(*arguments)
        calls += 1
        if calls == (1 if step == "take" else 2):
            await _stop_here()
        return result

    return type("Stopping", (PartitionStore,), {step: staticmethod(stopping) if step == "take" else stopping})


async def main(kafka: str, prefix: str, dsn: str, partition: str, step: str) -> None:
    sink = Sink(
        kafka=kafka,
        prefix=prefix,
        dsn=dsn,
        membership=StaticMembership(frozenset({int(partition)})),
        store=stopping_behind(step),
    )
    await sink.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
