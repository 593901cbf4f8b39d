"""Where and with what a run was made."""

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from bench.parts import ROOT
from ledgerline.stack.jars import KAFKA_VERSION
from ledgerline.stack.postgres import psql

PACKAGES: Final = ("aiokafka", "asyncpg", "orjson", "pydantic", "faust-streaming")
SYNCS: Final = 100


def load_average() -> list[float]:
    """Over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def commit() -> str:
    """Of the checkout, marked if tracked files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def machine(data: Path) -> dict[str, Any]:
    """Processor, memory, system, and what a sync of the disk below *data* takes."""
    return {
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "fdatasync_ms": round(_sync_ms(data), 2),
    }


def versions() -> dict[str, str]:
    """Python, servers, clients."""
    found = {"python": platform.python_version(), "kafka": KAFKA_VERSION}
    done = subprocess.run([str(psql().with_name("postgres")), "--version"], capture_output=True, text=True, check=False)
    found["postgresql"] = done.stdout.split()[2] if done.returncode == 0 else "unknown"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


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
