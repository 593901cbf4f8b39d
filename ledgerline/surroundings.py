"""Where and with what something was measured."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil


def commit(checkout: Path) -> str:
    """Return the commit of *checkout*, marked if tracked files differ from it; "unknown" without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - whichever git there is
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, str | int | float]:
    """Return processor, cores, memory and system; nothing that names the machine."""
    return {
        "cpu": processor(),
        "cores": psutil.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def python() -> str:
    """Return the version of this Python."""
    return platform.python_version()


def load_average() -> list[float]:
    """Return the load over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def packages(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
