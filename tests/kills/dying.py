"""Subclasses whose process dies between two steps: the only place where the tests' kills are made."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
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


def die(marker: Path) -> Never:
    """End this process as a crash of the machine would; *marker* tells that it was done here and by whom."""
    marker.write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived its SIGKILL")


def dying(base: type[T], kill: Kill, marker: Path) -> type[T]:
    """Return a subclass of *base* that dies at *kill*. Raises AttributeError if there is no such step."""
    found = inspect.getattr_static(base, kill.step)
    plain: Callable[..., Any] = getattr(base, kill.step)
    calls = count(1)

    def here(side: str, call: int) -> None:
        if (side, call) == (kill.side, kill.call):
            die(marker)

    async def step(*arguments: Any, **named: Any) -> Any:
        call = next(calls)
        here("front", call)
        result = await plain(*arguments, **named)
        here("behind", call)
        return result

    def synchronous_step(*arguments: Any, **named: Any) -> Any:
        call = next(calls)
        here("front", call)
        result = plain(*arguments, **named)
        here("behind", call)
        return result

    replacement: Any = step if inspect.iscoroutinefunction(plain) else synchronous_step
    unbound = isinstance(found, staticmethod | classmethod)
    return type(f"Dying{base.__name__}", (base,), {kill.step: staticmethod(replacement) if unbound else replacement})
