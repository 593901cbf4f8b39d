"""Subclasses whose process dies between two steps: the only place where the tests' kills are made."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, Never, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """Where a process dies: in front of or behind one call of a method, which is a numbered step."""

    step: str
    side: Literal["front", "behind"] = "behind"
    call: int = 1


def die(marker: Path, note: str = "") -> Never:
    """End this process as a crash of the machine would; *marker* tells that it was done here, by whom, and *note*."""
    marker.write_text(f"{os.getpid()} {note}")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived its SIGKILL")


async def _nothing(*_: Any) -> str:
    return ""


def dying(base: type[T], kill: Kill, marker: Path, look: Callable[..., Awaitable[str]] = _nothing) -> type[T]:
    """Return a subclass of *base* that dies at *kill*. Raises AttributeError if there is no such step.

    *look* gets the arguments of the step, if that is a coroutine; what it returns is noted in the marker.
    """
    found = inspect.getattr_static(base, kill.step)
    plain: Callable[..., Any] = getattr(base, kill.step)
    calls = count(1)

    async def step(*arguments: Any, **named: Any) -> Any:
        mine = next(calls) == kill.call
        if mine and kill.side == "front":
            die(marker, await look(*arguments))
        result = await plain(*arguments, **named)
        if mine:
            die(marker, await look(*arguments))
        return result

    def synchronous_step(*arguments: Any, **named: Any) -> Any:
        mine = next(calls) == kill.call
        if mine and kill.side == "front":
            die(marker)
        result = plain(*arguments, **named)
        if mine:
            die(marker)
        return result

    replacement: Any = step if inspect.iscoroutinefunction(plain) else synchronous_step
    unbound = isinstance(found, staticmethod | classmethod)
    return type(f"Dying{base.__name__}", (base,), {kill.step: staticmethod(replacement) if unbound else replacement})
