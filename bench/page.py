"""The numbers of docs/performance.md, written from bench/results/result.json.

python -m bench.page
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import MOST_STOLEN_PERCENT, counted, undisturbed

ROOT: Final = Path(__file__).parents[1]
RESULT: Final = ROOT / "bench" / "results" / "result.json"
PAGE: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- numbers: written by `python -m bench.page` from bench/results/result.json -->"
END: Final = "<!-- end of numbers -->"

WAYS: Final = {
    "ledgerline": "(c) Ledgerline: request produced → decided → rows in Postgres",
    "conventional_synchronous_commit_on": "(a) SQL function, `synchronous_commit` on",
    "conventional_synchronous_commit_off": "(a) SQL function, `synchronous_commit` off",
    "faust": "(b) Faust application (answers in Kafka, no rows)",
}
GOALS: Final = {"conventional_synchronous_commit_on": 3.0, "faust": 8.0}
STOLEN: Final = (
    "*CPU stolen* is what the host of this virtual machine gave to other machines while it wanted to run, lowest to"
    " highest round: what is not near 0 makes everything slower, and latencies most."
)
LEFT_OUT: Final = (
    f"A run in which the host took more than {MOST_STOLEN_PERCENT:.0f} % of the CPU is repeated, and left out of all"
    " columns but the last two if there is one in which it took less; the result file has all of them."
)
GOAL_RATE: Final = "1000"
GOALS_MS: Final = {"p50": 10, "p99": 60}


def update_page() -> None:
    """Put the numbers between the marks of the page."""
    text = PAGE.read_text()
    PAGE.write_text(with_numbers(text, json.loads(RESULT.read_text())))


def with_numbers(text: str, found: Mapping[str, Any]) -> str:
    """Return the page *text* with the numbers of *found*; raises ValueError if the marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: expected the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{numbers(found)}\n\n{END}{after}"


def numbers(found: Mapping[str, Any]) -> str:
    """Everything that was measured, as Markdown."""
    parts = [_where(found), _throughput(found), _ratios(found), _cpu(found), _latency(found), _memory(found)]
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [_row(head), _row(["---"] + ["---:"] * (len(head) - 1)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _where(found: Mapping[str, Any]) -> str:
    machine, setting, load = found["machine"], found["setting"], found["load_average"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"Measured {found['date']} at commit `{found['commit']}` on {machine['cores']} cores of {machine['cpu']},"
        f" {machine['memory_gib']} GiB, {machine['system']}; a sync of the disk takes {machine['fdatasync_ms']} ms"
        f" (median). Load average before {load['before'][0]}, after {load['after'][0]}. {versions}."
        f" {setting['rounds']} rounds of {setting['seconds']} s each way, {setting['accounts']:,} accounts,"
        f" {setting['partitions']} partitions, {setting['workers']} workers, {setting['sinks']} sink;"
        f" pgbench with {setting['pgbench_clients']} clients. Everything shared this machine, load generators included."
    )


def _throughput(found: Mapping[str, Any]) -> str:
    rows = []
    for way, each in found["throughput"]["per_second"].items():
        stolen = [window["stolen_percent"] for window in found["throughput"]["windows"] if window["way"] == way]
        range_ = f"{each['lowest']:,.0f} to {each['highest']:,.0f}"
        rows.append([WAYS[way], f"{each['median']:,.0f}", range_, _percent_range(stolen)])
    head = ["way", "payments/s (median)", "lowest to highest round", "CPU stolen"]
    return f"### Throughput\n\n{table(head, rows)}\n\n{STOLEN}"


def _ratios(found: Mapping[str, Any]) -> str:
    rows = []
    for name, ratio in found["ratios"].items():
        way = name.removeprefix("ratio_to_")
        goal = f"≥ {GOALS[way]:.0f}: {_verdict(ratio['median'] >= GOALS[way])}" if way in GOALS else "none"
        rows.append([WAYS[way], f"{ratio['median']:.2f}", f"{ratio['lowest']:.2f} to {ratio['highest']:.2f}", goal])
    head = ["Ledgerline against", "ratio of medians", "ratios of the rounds", "goal"]
    return f"### Ratios\n\n{table(head, rows)}\n\nNext to each ratio belongs: {found['durability']}"


def _cpu(found: Mapping[str, Any]) -> str:
    rows = []
    for way, costs in found["throughput"]["cpu_us_per_transaction"].items():
        parts = ", ".join(f"{name} {cost:.0f}" for name, cost in costs.items() if name != "sum")
        rows.append([WAYS[way], f"{costs['sum']:.0f}", parts])
    return "### CPU\n\n" + table(["way", "CPU µs per payment", "of which"], rows)


def _latency(found: Mapping[str, Any]) -> str:
    rows = []
    for rate, each in found["latency"].items():
        late = sum(run["late_sends"] for run in each["runs"])
        sent = sum(run["sent"] for run in each["runs"])
        unanswered = sum(run["unanswered"] for run in each["runs"])
        broker, due = each["from_broker_ms"], each["from_schedule_ms"]
        rows.append(
            [
                f"{int(rate):,}/s",
                *(f"{broker[name]['median']:.0f}" for name in ("p50", "p90", "p99", "p99.9", "max")),
                f"{broker['p99']['lowest']:.0f} to {broker['p99']['highest']:.0f}",
                f"{due['p50']['median']:.0f} / {due['p99']['median']:.0f}",
                f"{len(undisturbed(each['runs']))} of {len(each['runs'])}",
                _percent_range([run["stolen_percent"] for run in counted(each["runs"])]),
                f"{late:,} of {sent:,}",
                f"{unanswered:,}",
            ]
        )
    head = ["rate", "p50", "p90", "p99", "p99.9", "max", "p99 of the runs"]
    head += ["from due time p50 / p99", "runs undisturbed", "CPU stolen", "sent late", "unanswered"]
    title = "### Latency in ms, broker's timestamp of the request to that of the outcome"
    parts = [title, table(head, rows), LEFT_OUT]
    if GOAL_RATE in found["latency"]:
        reached = {name: found["latency"][GOAL_RATE]["from_broker_ms"][name]["median"] for name in GOALS_MS}
        said = ", ".join(f"{n} ≤ {goal}: {_verdict(reached[n] <= goal)}" for n, goal in GOALS_MS.items())
        parts.append(f"Goal at {int(GOAL_RATE):,}/s in ms: {said}.")
    return "\n\n".join(parts)


def _percent_range(values: Sequence[float]) -> str:
    """The lowest to the highest."""
    return f"{min(values):.0f} to {max(values):.0f} %"


def _verdict(met: bool) -> str:  # noqa: FBT001 - a fact, not a mode
    return "met" if met else "**missed**"


def _memory(found: Mapping[str, Any]) -> str:
    memory = found["memory"]
    rows = [
        ["account and the request that opened it", f"{memory['bytes_per_account_opened']:,.0f} B"],
        [
            "account with its opening, a deposit and a first payment (limits, score, near-duplicates)",
            f"{memory['bytes_per_account_opened_funded_and_paid_from']:,.0f} B",
        ],
        [
            "each further payment, remembered for retries and near-duplicates",
            f"{memory['bytes_per_further_payment']:,.0f} B",
        ],
        ["CPU of the engine alone, per decision", f"{memory['engine_cpu_us_per_decision']:,.0f} µs"],
    ]
    return f"### Memory of a worker\n\n{table(['each', 'takes'], rows)}"


if __name__ == "__main__":
    update_page()
