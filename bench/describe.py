"""Where and with what a run was made."""

import os
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.parts import ROOT
from ledgerline import surroundings
from ledgerline.stack.jars import KAFKA_VERSION
from ledgerline.stack.postgres import psql

PACKAGES: Final = ("aiokafka", "asyncpg", "orjson", "pydantic", "faust-streaming")
SYNCS: Final = 100


def commit() -> str:
    """Of the checkout, marked if tracked files differ from it."""
    return surroundings.commit(ROOT)


def machine(data: Path) -> dict[str, Any]:
    """Processor, memory, system, and what a sync of the disk below *data* takes."""
    return {**surroundings.machine(), "fdatasync_ms": round(_sync_ms(data), 2)}


def versions() -> dict[str, str]:
    """Python, servers, clients."""
    found = {"python": surroundings.python(), "kafka": KAFKA_VERSION}
    done = subprocess.run([str(psql().with_name("postgres")), "--version"], capture_output=True, text=True, check=False)
    found["postgresql"] = done.stdout.split()[2] if done.returncode == 0 else "unknown"
    return found | surroundings.packages(PACKAGES)


def _sync_ms(folder: Path) -> float:
    """The median of syncing 8 KiB behind each other."""
    folder.mkdir(parents=True, exist_ok=True)
    path, times = folder / "sync.tmp", []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(8192))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - began))
    path.unlink()
    return median(times)
