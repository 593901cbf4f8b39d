"""The HTTP endpoints of every process: ``/metrics`` (Prometheus), ``/livez``, ``/readyz``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ledgerline.errors import ConfigurationError
from streams.metrics import Readiness

Ready = Callable[[], Readiness]


@asynccontextmanager
async def serve(address: tuple[str, int], registry: CollectorRegistry, ready: Ready) -> AsyncIterator[str]:
    """Serve the endpoints while the context lasts; yields ``host:port`` as bound (port 0 is any).

    ``/livez`` answers 200 as long as the event loop turns; ``/readyz`` 200 or 503, with what
    the process says about itself.
    Raises ConfigurationError if the address is taken or not ours.
    """

    async def metrics(_: web.Request) -> web.Response:
        ready()  # sets the gauge
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def readyz(_: web.Request) -> web.Response:
        said = ready()
        body = orjson.dumps({"ready": said.ready, **said.detail}, option=orjson.OPT_INDENT_2) + b"\n"
        return web.Response(status=200 if said.ready else 503, body=body, content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/livez", livez), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, port = address
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(
                f"LEDGERLINE_HTTP: expected a free address, got {host}:{port}: {error.strerror or error}; "
                "choose another port (0 is any)"
            ) from error
        bound = runner.addresses[0]
        yield f"{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()


def combine(*parts: Ready) -> Ready:
    """Ready when all *parts* are; what each says is merged."""

    def ready() -> Readiness:
        said = [part() for part in parts]
        detail: dict[str, object] = {}
        for one in said:
            detail |= one.detail
        return Readiness(all(one.ready for one in said), detail)

    return ready
