"""``send_many`` that is given up in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ledgerline.client import Client, Outcome
from schemas.requests import Request
from tests.streams.world import until


class Unanswered(Client):
    """A client whose requests are never answered."""

    waiting = 0

    async def send(
        self,
        request: Mapping[str, Any] | Request,  # noqa: ARG002
        *,
        timeout: float,  # noqa: ARG002
        final: bool = False,  # noqa: ARG002
    ) -> Outcome:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        raise AssertionError


async def test_giving_up_a_stream_of_requests_leaves_none_of_them_under_way() -> None:
    client = Unanswered(kafka="nowhere")
    before = asyncio.all_tasks()
    stream = client.send_many([{} for _ in range(10)], timeout=60, under_way=2)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: client.waiting == 4, "one is awaited, two wait, one is about to")
    first.cancel()
    await asyncio.wait({first})
    await stream.aclose()
    await until(lambda: client.waiting == 0, "none under way", within_s=2)
    assert asyncio.all_tasks() == before
