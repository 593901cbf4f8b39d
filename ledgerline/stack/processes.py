"""Find and stop server processes by what they run, never by a remembered process id alone.

A process id says nothing after a crash or a reboot: another program may have it. A server of ours is a process whose
command line has the path of our own configuration or data folder as one of its arguments.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import psutil

Marker = tuple[str, ...]
"""Arguments that, all found on one command line, tell that the process is a certain server of a certain stack."""


def runs(process: psutil.Process, marker: Marker) -> bool:
    """True if *process* is alive and has *marker* among its arguments."""
    try:
        arguments = process.cmdline()
        if not arguments and process.status() != psutil.STATUS_ZOMBIE:  # just started: exec has not set them yet
            time.sleep(0.05)
            arguments = process.cmdline()
        return all(part in arguments for part in marker) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # a process of another user cannot be one of ours
        return False


def alive(process: psutil.Process) -> bool:
    """True until *process* has ended, also in the moment after its start in which it has no command line yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def by_pid(pid: int, marker: Marker) -> psutil.Process | None:
    """Return the process *pid* if it is the server that *marker* names."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if runs(process, marker):
            return process
    return None


def find(program: str, marker: Marker) -> psutil.Process | None:
    """Look through all processes for *program* started with *marker*; of a parent and its forks, the parent."""
    found = {process.pid: process for process in candidates(program) if runs(process, marker)}
    for process in found.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in found:
                return process
    return None


def candidates(program: str) -> Iterator[psutil.Process]:
    """Yield the processes whose name is *program*, this one excluded."""
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == program and process.pid != os.getpid():
            yield process


def stop(process: psutil.Process, *steps: tuple[signal.Signals, float]) -> None:
    """Send the signals of *steps* one after the other until *process* is gone, waiting the given seconds after each.

    Its children are waited for too, and killed if they outlive it.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for number, patience_s in steps:
            process.send_signal(number)
            _, alive = psutil.wait_procs(family, timeout=patience_s)
            if process not in alive:
                break
        for rest in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                rest.kill()
        psutil.wait_procs(family, timeout=5)
