"""CPU time: of processes, those that they have started included, dead or alive, and what the host took away."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple, Self

import psutil


def cpu_s(pid: int) -> float:
    """User and system seconds of *pid*, its living descendants, and the descendants that were waited for."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def snapshot(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds by name."""
    return {name: cpu_s(pid) for name, pid in pids.items()}


def since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds spent between two snapshots of the same processes."""
    return {name: max(0.0, after[name] - seconds) for name, seconds in before.items()}


class Machine(NamedTuple):
    """CPU seconds of a virtual machine so far, of all its cores: *stolen* ones its host gave to others."""

    stolen: float
    total: float

    @classmethod
    def now(cls) -> Self:
        """0 stolen where the system does not tell."""
        times = psutil.cpu_times()
        return cls(getattr(times, "steal", 0.0), sum(times) - getattr(times, "guest", 0.0))

    def stolen_percent(self) -> float:
        """Since this was taken."""
        now = self.now()
        return round(100 * (now.stolen - self.stolen) / max(1e-9, now.total - self.total), 1)
