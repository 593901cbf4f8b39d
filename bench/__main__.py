"""`python -m bench`: measure everything in one run and write it to bench/results/."""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.conventional import CLIENTS, SQL, Conventional, Durability
from bench.describe import commit, machine, versions
from bench.figures import counted, per_transaction_us, percentile, ratios, spread, undisturbed
from bench.latency import paced
from bench.page import update_page
from bench.parts import ROOT, WORKERS, Faust, FaustMissing, Ledger, Stage, addresses, upstream
from bench.payments import PARTITIONS
from bench.report import write_html
from bench.usage import Machine, since, snapshot
from ledgerline.settings import Settings
from ledgerline.stack import local
from ledgerline.surroundings import load_average

RESULTS: Final = ROOT / "bench" / "results"
RATES: Final = (200, 1_000, 2_000)
WARM_UP_S: Final = 2.0
MEMORY_ACCOUNTS: Final = 20_000
WAITING: Final = {"ledgerline": 10_000, "faust": 1_000}
"""Requests that may wait for their effect: more than a way works on at once, few enough to be done soon afterwards."""

SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
FSYNC: Final = (
    "Kafka acknowledges from memory: what a broker has acknowledged is not fsynced, and replication (here one broker,"
    " so none) is what protects it. PostgreSQL fsyncs its log before it acknowledges, unless synchronous_commit is off."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how often."""

    rounds: int
    seconds: int
    latency_seconds: int
    latency_repeats: int
    accounts: int
    results: Path


def say(text: str) -> None:
    """A line of progress, with the load of the machine."""
    print(f"{time.strftime('%H:%M:%S')} load {load_average()[0]:5.2f}  {text}", flush=True)


@contextlib.contextmanager
def stack(accounts: int) -> Iterator[Stage]:
    """A Kafka and a PostgreSQL of the bench's own, new and deleted afterwards, beside the user's local stack."""
    home = Settings(kafka=None, postgres=None).home.parent / "ledgerline-bench"
    settings = Settings(home=home, kafka=None, postgres=None, http="127.0.0.1:0")
    local.down(settings.layout, say)
    local.delete(settings.layout, say)
    logs = Path(tempfile.mkdtemp(prefix="ledgerline-bench-"))
    try:
        servers, _ = local.up(settings.layout, say)
        assert servers.kafka is not None
        assert servers.postgres is not None
        kafka, dsn = addresses(settings)
        pids = {"kafka": servers.kafka.pid, "postgres": servers.postgres.pid}
        name = f"bench-{time.strftime('%H%M%S')}"
        yield Stage(
            settings=settings, kafka=kafka, admin_dsn=dsn, servers=pids, logs=logs, accounts=accounts, name=name
        )
    except BaseException:
        say(f"the logs of the processes are in {logs}")
        raise
    else:
        shutil.rmtree(logs)
    finally:
        local.down(settings.layout, say)
        local.delete(settings.layout, say)


class Measured:
    """What the rounds gave, by way. Mutable."""

    def __init__(self) -> None:
        self.per_second: dict[str, list[float]] = {}
        self.cpu_us: dict[str, dict[str, list[float]]] = {}
        self.windows: list[dict[str, Any]] = []
        self.client_latency_ms: dict[str, list[float]] = {}

    def add(self, way: str, per_second: float, transactions: int, cpu_s: dict[str, float], machine: Machine) -> None:
        """One window of *way*, which began at *machine*."""
        self.per_second.setdefault(way, []).append(round(per_second, 1))
        costs = {name: per_transaction_us(seconds, transactions) for name, seconds in cpu_s.items()}
        for name, cost in costs.items():
            self.cpu_us.setdefault(way, {}).setdefault(name, []).append(cost)
        stolen = machine.stolen_percent()
        self.windows.append(
            {
                "way": way,
                "at": time.strftime("%H:%M:%S"),
                "per_second": round(per_second, 1),
                "load": load_average()[0],
                "stolen_percent": stolen,
            }
        )
        say(f"{way}: {per_second:,.0f}/s, CPU us per transaction {costs}, {stolen} % of the CPU stolen")

    def as_json(self) -> dict[str, Any]:
        """Medians and spreads; CPU by process."""
        cpu = {
            way: {name: spread(values).median for name, values in costs.items()} for way, costs in self.cpu_us.items()
        }
        return {
            "per_second": {
                way: spread(values)._asdict() | {"rounds": values} for way, values in self.per_second.items()
            },
            "cpu_us_per_transaction": {
                way: costs | {"sum": round(sum(costs.values()), 1)} for way, costs in cpu.items()
            },
            "pgbench_latency_ms": {way: spread(values).median for way, values in self.client_latency_ms.items()},
            "windows": self.windows,
        }

    def ratios(self) -> dict[str, Any]:
        """Ledgerline's throughput against each other way, each with what must be said next to it."""
        ours = self.per_second["ledgerline"]
        return {
            f"ratio_to_{way}": ratios(ours[: len(theirs)], theirs)._asdict() | {"note": FSYNC}
            for way, theirs in self.per_second.items()
            if way != "ledgerline"
        }


async def throughput(options: Options, stage: Stage, ledger: Ledger, faust: Faust | None) -> tuple[Measured, str]:
    """The rounds, A B A B; what they gave, and the plans of the conventional way."""
    found = Measured()
    conventional = await Conventional.create(stage.admin_dsn, stage.servers["postgres"], options.accounts)
    plans = await conventional.explain()
    await asyncio.to_thread(conventional.run, max(1, int(WARM_UP_S)), "on")
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        await _conventional(found, conventional, options, "on")
        await _flooded(found, "ledgerline", ledger, options, f"t{number}")
        await _conventional(found, conventional, options, "off")
        if faust is not None:
            try:
                await _flooded(found, "faust", faust, options, f"t{number}")
            except (RuntimeError, TimeoutError) as error:
                say(f"Faust failed, going on without it: {error!r}")
                faust = None
    return found, plans


async def _conventional(found: Measured, conventional: Conventional, options: Options, durability: Durability) -> None:
    machine_before = Machine.now()
    run = await asyncio.to_thread(conventional.run, options.seconds, durability)
    way = f"conventional_synchronous_commit_{durability}"
    found.client_latency_ms.setdefault(way, []).append(run.latency_ms)
    found.add(way, run.per_second, run.transactions, run.cpu_s, machine_before)


async def _flooded(found: Measured, way: str, part: Ledger | Faust, options: Options, run: str) -> None:
    servers, waiting = part.stage.servers, WAITING[way]
    async with part.running() as pids:
        await upstream(part.order(mode="flood", waiting=waiting, seconds=WARM_UP_S, run=f"{run}w"))
        before, machine_before = snapshot(servers | pids), Machine.now()
        sending = await upstream(part.order(mode="flood", waiting=waiting, seconds=float(options.seconds), run=run))
        used = since(before, snapshot(servers | pids)) | {"upstream": sending.cpu_s}
        found.add(way, sending.sent / sending.seconds, sending.sent, used, machine_before)


async def latencies(options: Options, ledger: Ledger) -> dict[str, Any]:
    """Every rate in turn, and again; once more for each run that the host disturbed, up to twice as many in all."""
    runs: dict[int, list[dict[str, Any]]] = {rate: [] for rate in RATES}
    async with ledger.running() as pids:
        await upstream(ledger.order(mode="flood", waiting=WAITING["ledgerline"], seconds=WARM_UP_S, run="lw"))
        for repeat in range(2 * options.latency_repeats):
            for rate in RATES:
                if len(undisturbed(runs[rate])) >= options.latency_repeats:
                    continue
                name = f"l{repeat}-{rate}"
                watched, machine_before = ledger.stage.servers | pids, Machine.now()
                sending, cpu, found = await paced(ledger, watched, rate, options.latency_seconds, name)
                runs[rate].append(
                    {
                        "sent": sending.sent,
                        "late_sends": sending.late,
                        "max_late_ms": sending.max_late_ms,
                        "unanswered": found.unanswered,
                        "from_broker_ms": _percentiles(found.from_broker),
                        "from_schedule_ms": _percentiles(found.from_schedule),
                        "cpu_us_per_transaction": {n: per_transaction_us(s, sending.sent) for n, s in cpu.items()},
                        "load": load_average()[0],
                        "stolen_percent": machine_before.stolen_percent(),
                    }
                )
                said = runs[rate][-1]
                late = f"{sending.late} of {sending.sent} sent late"
                say(f"{rate}/s: {said['from_broker_ms']}, {late}, {said['stolen_percent']} % of the CPU stolen")
    return {str(rate): {"runs": found, **_over(counted(found))} for rate, found in runs.items()}


def _percentiles(values: list[int]) -> dict[str, int]:
    return {name: percentile(values, share) for name, share in SHARES.items()}


def _over(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median over the runs of each percentile, and its extremes."""
    return {
        kind: {name: spread([run[kind][name] for run in runs])._asdict() for name in SHARES}
        for kind in ("from_broker_ms", "from_schedule_ms")
    }


async def memory(accounts: int) -> dict[str, float]:
    """Measured in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.memory", str(accounts), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"bench.memory ended with {process.returncode}")
    found: dict[str, float] = json.loads(out)
    return found


async def measure(options: Options, stage: Stage) -> dict[str, Any]:
    """What needs the stack."""
    ledger = await Ledger.create(stage)
    faust: Faust | None = None
    try:
        faust = await Faust.create(stage)
    except FaustMissing as missing:
        say(f"{missing}; going on without it")
    say(f"opening {options.accounts:,} accounts")
    async with ledger.running():
        await upstream(ledger.order(mode="open"))
        await upstream(ledger.order(mode="fund"))
    if faust is not None:
        try:
            async with faust.running():
                await upstream(faust.order(mode="fund"))
        except (RuntimeError, TimeoutError) as error:
            say(f"Faust failed, going on without it: {error!r}")
            faust = None
    found, plans = await throughput(options, stage, ledger, faust)
    return {
        "throughput": found.as_json(),
        "ratios": found.ratios(),
        "latency": await latencies(options, ledger),
        "conventional": {"sql": SQL.read_text(), "explain": plans},
    }


def run(options: Options) -> dict[str, Any]:
    """All measurements, as they are written."""
    began, load = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), load_average()
    with stack(options.accounts) as stage:
        described = machine(stage.settings.home)
        measured = asyncio.run(measure(options, stage))
    say("memory")
    return {
        "date": began,
        "commit": commit(),
        "machine": described,
        "versions": versions(),
        "load_average": {"before": load, "after": load_average()},
        "setting": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "accounts": options.accounts,
            "partitions": PARTITIONS,
            "workers": WORKERS,
            "sinks": 1,
            "pgbench_clients": CLIENTS,
            "latency_seconds": options.latency_seconds,
            "latency_repeats": options.latency_repeats,
        },
        "durability": FSYNC,
        **measured,
        "memory": asyncio.run(memory(MEMORY_ACCOUNTS)),
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=12, help="of each measured window")
    parser.add_argument("--latency-seconds", type=int, default=20)
    parser.add_argument("--latency-repeats", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=4_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = Options(**vars(parser.parse_args()))
    found = run(options)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    write_html(found, options.results / "result.html")
    if options.results == RESULTS:
        update_page()
    print(found["conventional"]["sql"], found["conventional"]["explain"], sep="\n")
    say(f"written: {options.results / 'result.json'} and result.html")
    for name, ratio in found["ratios"].items():
        print(f"{name} {ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})")
    print(FSYNC)


if __name__ == "__main__":
    main()
