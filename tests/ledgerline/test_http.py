"""The HTTP endpoints of every process."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from ledgerline.errors import ConfigurationError
from ledgerline.http import combine, serve
from streams.metrics import Readiness


async def get(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def test_metrics_liveness_and_readiness_are_served_on_a_free_port() -> None:
    registry = CollectorRegistry()
    Counter("ledgerline_tests", "Tests.", registry=registry).inc()
    said = Readiness(ready=False, detail={"partitions": {"0": {"phase": "taking"}}})
    async with serve(("127.0.0.1", 0), registry, lambda: said) as address:
        assert (await get(address, "/livez"))[0] == 200
        status, body = await get(address, "/readyz")
        assert status == 503
        assert '"taking"' in body
        said = Readiness(ready=True, detail={})
        assert (await get(address, "/readyz"))[0] == 200
        status, body = await get(address, "/metrics")
        assert status == 200
        assert "ledgerline_tests_total 1.0" in body


async def test_a_taken_address_is_a_setting_to_change() -> None:
    async with serve(("127.0.0.1", 0), CollectorRegistry(), lambda: Readiness(ready=True, detail={})) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match="LEDGERLINE_HTTP"):
            async with serve(("127.0.0.1", port), CollectorRegistry(), lambda: Readiness(ready=True, detail={})):
                pass


def test_a_process_of_two_parts_is_ready_when_both_are() -> None:
    worker, sink = Readiness(ready=True, detail={"worker": "w"}), Readiness(ready=False, detail={"sink": "s"})
    both = combine(lambda: worker, lambda: sink)()
    assert not both.ready
    assert both.detail == {"worker": "w", "sink": "s"}
    assert combine(lambda: worker, lambda: worker)().ready
