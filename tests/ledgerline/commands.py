"""Runs a command of the command line in this process, as its entry point does."""

import contextlib
import io
import sys
from typing import NamedTuple
from unittest import mock

import orjson

from ledgerline.cli.app import main


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        """Standard output as one JSON document."""
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[dict[str, object]]:
        """Standard output as one JSON object per line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


def ledgerline(*arguments: str, stdin: str = "") -> Ran:
    """Run ``ledgerline *arguments*``."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["ledgerline", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())
