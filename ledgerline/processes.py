"""A worker, a sink, or both in one process: signals, HTTP endpoints, and how they end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from ledgerline.http import Ready, combine, serve
from ledgerline.settings import Settings
from ledgerline.stack import registry
from sinks.postgres.errors import ForeignLedger, PostgresUnavailable
from sinks.postgres.readers import SINK_ID, sink_position
from sinks.postgres.sink import Sink
from streams.journal.reading import Position
from streams.metrics import Readiness, WorkerMetrics
from streams.services import NoSinks, PositionSource
from streams.worker import DRAINED, HALTED, Worker, WorkerOptions

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


class PostgresPositions:
    """The sink's rows, as a witness for workers that take a partition (``streams.services.PositionSource``)."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def positions(self, ledger_id: str, partition: int) -> Sequence[tuple[str, Position]]:
        """The row of the main sink; nothing if it is another ledger's, or if PostgreSQL is out of reach."""
        try:
            found = await sink_position(self._dsn, ledger_id=ledger_id, partition=partition)
        except (PostgresUnavailable, ForeignLedger) as error:
            log.info("no witness in PostgreSQL", partition=partition, cause=str(error))
            return ()
        return () if found is None else ((f"the row of sink {SINK_ID} in PostgreSQL", found),)


async def run_worker(settings: Settings, options: WorkerOptions, dsn: str | None) -> int:
    """Run a worker until SIGTERM or SIGINT; return its exit code. With *dsn* the sink's rows are witnesses."""
    metrics = CollectorRegistry()
    sinks: PositionSource = NoSinks() if dsn is None else PostgresPositions(dsn)
    worker = Worker(options, WorkerMetrics(metrics), sinks)
    with stopping(worker.stop):
        async with serving(settings, "worker", metrics, worker.readiness):
            return await worker.run()


async def run_sink(settings: Settings, kafka: str, dsn: str) -> int:
    """Run a sink until SIGTERM or SIGINT; return its exit code: 0 drained, 4 with a halted partition."""
    metrics, stop = CollectorRegistry(), asyncio.Event()
    sink = Sink(kafka=kafka, prefix=settings.prefix, dsn=dsn, registry=metrics)
    with stopping(stop.set):
        async with serving(settings, "sink", metrics, sink.ready):
            await sink.run(stop)
    return HALTED if sink.halted else DRAINED


async def run_both(settings: Settings, options: WorkerOptions, dsn: str) -> int:
    """Run a worker and a sink until SIGTERM or SIGINT, or until either ends; return the worse of their exit codes.

    The worker drains first. What the sink has not written by then it writes when it is started again.
    """
    metrics, stop = CollectorRegistry(), asyncio.Event()
    worker = Worker(options, WorkerMetrics(metrics), PostgresPositions(dsn))
    sink = Sink(kafka=options.kafka, prefix=settings.prefix, dsn=dsn, registry=metrics)

    def sink_ready() -> Readiness:
        said = sink.ready()
        return Readiness(said.ready, {"sink": said.detail})

    with stopping(worker.stop):
        async with serving(settings, "run", metrics, combine(worker.readiness, sink_ready)):
            deciding = asyncio.create_task(worker.run(), name="worker")
            writing = asyncio.create_task(sink.run(stop), name="sink")
            try:
                await asyncio.wait({deciding, writing}, return_when=asyncio.FIRST_COMPLETED)
                worker.stop()
                code = await deciding
            finally:
                worker.stop()
                stop.set()
                await asyncio.gather(deciding, writing, return_exceptions=True)
            writing.result()
    return code or (HALTED if sink.halted else DRAINED)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call *stop* on SIGTERM and SIGINT. A second one ends the process at once, which is safe at any moment."""
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        log.info("draining", signal=number.name)
        for one in SIGNALS:
            loop.remove_signal_handler(one)
        stop()

    for one in SIGNALS:
        loop.add_signal_handler(one, asked, one)
    try:
        yield
    finally:
        for one in SIGNALS:
            loop.remove_signal_handler(one)


@asynccontextmanager
async def serving(settings: Settings, kind: str, metrics: CollectorRegistry, ready: Ready) -> AsyncIterator[None]:
    """Serve the HTTP endpoints, and list their address for ``ledgerline status``, while the context lasts."""
    async with serve(settings.http_address, metrics, ready) as address:
        log.info("serving /metrics, /livez, /readyz", address=address)
        entry = registry.register(settings.home, kind, address)
        try:
            yield
        finally:
            entry.close()
