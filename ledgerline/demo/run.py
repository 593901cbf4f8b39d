"""The course of the demo, from the first topic to the proof."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
from rich.console import Console

from ledgerline.demo import processes
from ledgerline.demo.ending import print_outcomes, print_scores, print_speed, print_takeover
from ledgerline.demo.figures import Figures, count_rows, describe
from ledgerline.demo.killed import Killed
from ledgerline.demo.ledger import DemoLedger, create_ledger, delete_earlier, psql_line
from ledgerline.demo.observer import Observer
from ledgerline.demo.processes import Process
from ledgerline.demo.report import write_report
from ledgerline.demo.screen import Progress
from ledgerline.demo.sender import Sender, send_bursts, send_steadily
from ledgerline.demo.timeline import Stand, course_of
from ledgerline.demo.traffic import PER_THOUSAND, SAMPLE, Sample, Traffic, fundings, openings, read_sample
from ledgerline.errors import UnreachableError
from ledgerline.settings import Settings
from ledgerline.verify import show
from ledgerline.verify.report import Report
from ledgerline.verify.run import watched

ANSWERED_WITHIN_S: Final = 120.0
POSTED_EVERY_S: Final = 0.5
LOOK_EVERY_S: Final = 0.1
KILL_AFTER: Final = 0.5
"""The share of the requests that has been sent when a worker is killed."""
IN_FLIGHT_MS: Final = 500
"""What a killed worker had handed to its sockets may reach the brokers this long; nobody takes over that early."""
REPORTS: Final = "reports"
"""The folder below the home where reports are kept, beside the stack, so that `down --delete` leaves them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line decides: requests to play, their rate per second, whether everything goes on running."""

    requests: int
    rate: int
    seed: int
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a demo ended: whether every invariant was proved, and where its report is."""

    proved: bool
    report: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Who was killed, how many accounts there are, and the seconds from the first payment sent to the last booked."""

    killed: Killed
    accounts: int
    elapsed_s: float


@dataclass(slots=True, kw_only=True)
class Stage:
    """What plays together while the demo runs. Mutable: workers come and go."""

    options: Options
    console: Console
    settings: Settings
    ledger: DemoLedger
    logs: Path
    http: aiohttp.ClientSession
    observer: Observer
    sender: Sender
    running: list[Process]
    posted: int = 0

    def start(self, name: str, command: str) -> Process:
        """Start a worker or a sink."""
        process = processes.start(name, [command], self.ledger.environment, self.settings.home, self.logs)
        self.running.append(process)
        return process

    @property
    def unanswered(self) -> int:
        """Requests that were acknowledged by the brokers and have no outcome yet."""
        return self.sender.sent - self.observer.seen.answered

    @property
    def all_answered(self) -> bool:
        """Whether every request has its outcome, and both have been seen."""
        return self.unanswered == 0 and self.observer.unmatched == 0

    @property
    def unposted(self) -> int:
        """Events that the outcomes tell of and Postgres does not hold yet."""
        return sum(self.observer.seen.seqs.values()) - self.posted


async def run_demo(options: Options, settings: Settings, console: Console) -> Finished:
    """Play the demo, prove its result, and write the report.

    Raises LedgerlineError if a part cannot be started or the report cannot be written.
    """
    console.rule("[bold]Ledgerline demo")
    console.print(
        f"{options.requests:,} card payments from a simulated, labelled stream (Sparkov generator); its time is"
        " compressed: requested_at is now. Mixed in, per thousand: "
        + ", ".join(f"{share} {kind.replace('_', ' ')}" for kind, share in PER_THOUSAND.items())
        + f". Seed {options.seed}."
    )
    await delete_earlier(settings)
    ledger = await create_ledger(settings)
    console.print(f"ledger [bold]{ledger.topics.prefix}[/] with {ledger.partitions} partitions on Kafka {ledger.kafka}")
    sample = await asyncio.to_thread(read_sample, SAMPLE, options.requests, ledger.partitions)
    async with _stage(options, settings, console, ledger) as stage:
        played = await _play(stage, sample)
        seen = stage.observer.seen
        print_outcomes(console, seen)
        await print_scores(console, ledger, seen)
        print_speed(console, seen, options.requests, played.elapsed_s)
        print_takeover(console, played.killed, stage.observer.resumed_ms)
        console.rule("[bold]Proof")
        proof = await watched(ledger.kafka, ledger.topics.prefix, ledger.dsn)
        show(proof, console)
        figures = await _figures(stage, played, proof)
        report = await asyncio.to_thread(write_report, figures, settings.home.resolve() / REPORTS)
        _say_where_next(stage, seen.a_decline)
        console.print(f"report     {report}", soft_wrap=True)
    return Finished(proved=proof.ok, report=report)


async def _figures(stage: Stage, played: Played, proof: Report) -> Figures:
    """Gather what was measured."""
    options, observer, ledger = stage.options, stage.observer, stage.ledger
    return Figures(
        name=ledger.topics.prefix.removesuffix("."),
        requests=options.requests,
        rate=options.rate,
        seed=options.seed,
        accounts=played.accounts,
        elapsed_s=played.elapsed_s,
        by_result=observer.seen.by_result,
        repeated_publications=observer.seen.repeated_publications,
        course=await asyncio.to_thread(course_of, observer.timeline, ledger.partitions, played.killed),
        killed=played.killed,
        resumed_ms=observer.resumed_ms,
        rows=await count_rows(ledger.dsn),
        proof=proof,
        surroundings=await describe(ledger.dsn, stage.settings.kafka),
    )


@contextlib.asynccontextmanager
async def _stage(options: Options, settings: Settings, console: Console, ledger: DemoLedger) -> AsyncIterator[Stage]:
    """Two workers, a sink, and those who send and watch; afterwards they are stopped, unless they are to be kept."""
    logs = Path(tempfile.mkdtemp(prefix="ledgerline-demo-"))
    async with aiohttp.ClientSession() as http:
        observer = await Observer.start(ledger.kafka, ledger.topics.requests, ledger.topics.outcomes, ledger.partitions)
        sender = Sender(ledger.kafka, ledger.topics.requests, ledger.partitions)
        stage = Stage(
            options=options,
            console=console,
            settings=settings,
            ledger=ledger,
            logs=logs,
            http=http,
            observer=observer,
            sender=sender,
            running=[],
        )
        finished = False
        try:
            started = [
                stage.start("worker-1", "worker"),
                stage.start("worker-2", "worker"),
                stage.start("sink-1", "sink"),
            ]
            for process in started:
                await processes.await_ready(process, http)
            console.print("2 workers and a sink are ready")
            yield stage
            finished = True
        finally:
            await sender.close()
            await observer.close()
            if not (finished and options.keep):
                await asyncio.to_thread(processes.stop, stage.running)
            if finished and not options.keep:
                shutil.rmtree(logs)
            elif not finished:
                console.print(f"the logs of the processes are in {logs}")


async def _play(stage: Stage, sample: Sample) -> Played:
    """Open and fund the accounts, play the payments, kill a worker on the way, wait until all stands in Postgres."""
    stop_watching = asyncio.Event()
    accounts = [*sample.customers, *sample.settlements]
    requests = stage.options.requests
    with Progress(stage.console, requests + len(accounts) + len(sample.customers)) as progress:
        async with asyncio.TaskGroup() as group:
            group.create_task(_observe(stage, stop_watching))
            group.create_task(_watch(stage, progress, stop_watching))
            now_ms = _now_ms()
            await send_bursts(stage.sender, openings(accounts, now_ms))
            await _until(stage, "answered", lambda: stage.all_answered)
            await send_bursts(stage.sender, fundings(sample.customers, now_ms))
            await _until(stage, "answered", lambda: stage.all_answered)
            progress.say(f"{len(accounts):,} accounts opened, {len(sample.customers):,} of them funded")
            await _until(stage, "posted", lambda: stage.unposted <= 0)
            stage.observer.forget_times()
            began = time.monotonic()
            killing = group.create_task(_kill_in_the_middle(stage, progress))
            traffic = Traffic(sample.payments, requests, stage.options.seed)
            await send_steadily(stage.sender, traffic.take, stage.options.rate, lambda: stage.unanswered)
            killed = await killing
            await _until(stage, "answered", lambda: stage.all_answered)
            await _until(stage, "posted", lambda: stage.unposted <= 0)
            elapsed_s = time.monotonic() - began
            stop_watching.set()
    return Played(killed=killed, accounts=len(accounts), elapsed_s=elapsed_s)


async def _observe(stage: Stage, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await stage.observer.poll()


async def _watch(stage: Stage, progress: Progress, stop: asyncio.Event) -> None:
    """Ask Postgres how far it is, and show everything."""
    connection = await asyncpg.connect(stage.ledger.dsn)
    try:
        while not stop.is_set():
            stage.posted = await connection.fetchval(
                "SELECT coalesce(sum(seq), 0)::bigint FROM ledgerline.sink_positions"
            )
            known = sum(stage.observer.seen.seqs.values())
            stage.observer.timeline.stood(Stand(at_ms=_now_ms(), known=known, booked=stage.posted))
            alive = [p.name for p in stage.running if p.running.poll() is None and p.name.startswith("worker")]
            progress.show(stage.sender.sent, stage.observer.seen, stage.posted, ", ".join(alive))
            await asyncio.sleep(POSTED_EVERY_S)
    finally:
        await connection.close()


async def _until(stage: Stage, what: str, done: Callable[[], bool]) -> None:
    """Wait for *done*; raises UnreachableError if it does not come, with the end of a worker's log."""
    try:
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while not done():  # noqa: ASYNC110 - totals that several tasks change: looking is simpler than telling
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        logs = "\n".join(f"{process.name}: {processes.tail(process)}" for process in stage.running)
        missing = f"{stage.unanswered:,} requests have no outcome, {stage.unposted:,} events are not in Postgres"
        raise UnreachableError(
            f"not everything was {what} within {ANSWERED_WITHIN_S:.0f} s: {missing}\n{logs}"
        ) from None


async def _kill_in_the_middle(stage: Stage, progress: Progress) -> Killed:
    """SIGKILL the worker that owns most partitions when half of the payments have been sent; another one joins."""
    already = stage.sender.sent
    while stage.sender.sent - already < KILL_AFTER * stage.options.requests:  # noqa: ASYNC110 - as above
        await asyncio.sleep(LOOK_EVERY_S)
    workers = [process for process in stage.running if process.name.startswith("worker")]
    owned = {worker.name: await processes.owned(worker, stage.http) for worker in workers}
    victim = max(workers, key=lambda worker: len(owned[worker.name]))
    killed = Killed(name=victim.name, partitions=frozenset(owned[victim.name]), at_ms=_now_ms())
    processes.kill(victim)
    stage.observer.watch(set(killed.partitions), killed.at_ms + IN_FLIGHT_MS)
    progress.say(
        f"[red]SIGKILL[/] {victim.name}, the owner of {len(killed.partitions)} of {stage.ledger.partitions} partitions;"
        " worker-3 joins"
    )
    stage.start("worker-3", "worker")
    return killed


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _say_where_next(stage: Stage, decline: str | None) -> None:
    """Print the commands with which a person can look further."""
    ledger, out = stage.ledger, stage.console
    out.rule("[bold]Where to look next")
    if stage.options.keep:
        alive = [process for process in stage.running if process.running.poll() is None]
        out.print("Stack, workers and sink go on running. To stop them:")
        out.print(f"           kill {' '.join(str(process.running.pid) for process in alive)}; ledgerline down")
        for process in alive:
            out.print(f"metrics    http://{process.address}/metrics ({process.name})", soft_wrap=True)
    else:
        out.print("Everything was stopped, the data is kept (--keep leaves it running, with metrics). First:")
        out.print("           ledgerline up --detach")
    out.print(f"           export LEDGERLINE_PREFIX={ledger.topics.prefix}")
    out.print(f"psql       {psql_line(ledger)}", soft_wrap=True)
    if decline is not None:
        out.print(f"a decline  ledgerline explain {decline}")
    out.print("statement  ledgerline statement c-0")
