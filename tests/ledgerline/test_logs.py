"""Structured logs."""

from __future__ import annotations

import logging

import orjson
import pytest
import structlog

from ledgerline.logs import configure_logs


def test_json_logs_hold_what_was_bound_and_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    try:
        int("no number".join("hunter2"))
    except ValueError as error:
        structlog.get_logger().error("internal_error", partition=3, seq=9, request_id="r-1", exc_info=error)
    logging.getLogger("a.library").warning("topic %s", "x")
    said, library = map(orjson.loads, capsys.readouterr().err.splitlines())
    assert (said["event"], said["level"], said["partition"], said["seq"], said["request_id"]) == (
        "internal_error", "error", 3, 9, "r-1",
    )  # fmt: skip
    assert [set(frame) for frame in said["exception"][0]["frames"]] == [{"filename", "lineno", "name"}]
    assert library["event"] == "topic x"


def test_console_logs_are_one_line_and_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("console")
    structlog.get_logger().info("owned", partition=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "owned" in captured.err
    assert "partition=3" in captured.err
