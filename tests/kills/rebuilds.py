"""Rebuilds that die between two of their steps, and the list of those gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sinks.postgres.rebuild import Rebuild
from tests.kills.dying import Kill, dying


@dataclass(frozen=True, kw_only=True, slots=True)
class RebuildGap:
    """Two steps of ``Rebuild``, and the kill between them."""

    name: str
    kill: Kill
    switched: bool = False


GAPS: Final[Sequence[RebuildGap]] = (
    RebuildGap(name="1-2 fresh schema, nothing written", kill=Kill(step="prepare")),
    RebuildGap(name="2-3 written, not compared", kill=Kill(step="fold")),
    RebuildGap(name="3-4 compared, live sinks at work", kill=Kill(step="compare")),
    RebuildGap(name="4-5 live sinks stand still", kill=Kill(step="hold")),
    RebuildGap(name="5-6 both at one position", kill=Kill(step="finish")),
    RebuildGap(name="6-7 renamed, not committed", kill=Kill(step="exchange")),
    RebuildGap(name="7 committed, not known", kill=Kill(step="commit"), switched=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Which ledger is rebuilt."""

    kafka: str
    prefix: str
    dsn: str


def rebuild_until_killed(target: Target, gap: RebuildGap, marker: Path) -> int:
    """Run a rebuild that dies in *gap*."""
    rebuild = dying(Rebuild, gap.kill, marker)(kafka=target.kafka, prefix=target.prefix, dsn=target.dsn)
    asyncio.run(rebuild.run())
    return 0
