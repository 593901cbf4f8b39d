"""The arithmetic of the bench: medians, spreads, ratios, percentiles, joined latencies. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import median
from typing import Any, Final, NamedTuple

MOST_STOLEN_PERCENT: Final = 2.0
"""Of the CPU, by the host of a virtual machine: latencies measured while it took more say more about the host."""


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Median and extremes of *values*, at least one."""
    return Spread(median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratio of the medians, and the extremes of the ratios round by round (neighbours in time share the noise)."""
    if len(ours) != len(theirs):
        raise ValueError(f"expected as many rounds of both, got {len(ours)} and {len(theirs)}")
    by_round = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Spread(median(ours) / median(theirs), min(by_round), max(by_round))


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest of the sorted *values* that is not below *share* of them (nearest rank); at least one value."""
    return values[max(0, ceil(share * len(values)) - 1)]


def undisturbed(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of *runs* in which the host took at most 2 % of the CPU."""
    return [run for run in runs if run["stolen_percent"] <= MOST_STOLEN_PERCENT]


def counted(runs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The undisturbed ones; all if there is none."""
    return undisturbed(runs) or runs


class Sent(NamedTuple):
    """A request in the log: when it was to be sent by the sender's clock, and when the broker had it. In ms."""

    scheduled_ms: int
    broker_ms: int


class Latencies(NamedTuple):
    """Sorted latencies in ms; requests without an outcome are counted, never left out silently."""

    from_broker: list[int]
    from_schedule: list[int]
    unanswered: int


def joined(requests: Mapping[tuple[int, int], Sent], outcomes: Iterable[tuple[tuple[int, int], int]]) -> Latencies:
    """Join by (partition, offset of the request); of several outcomes of a request the first one counts."""
    answered: dict[tuple[int, int], int] = {}
    for at, broker_ms in outcomes:
        if at in requests:
            answered.setdefault(at, broker_ms)
    return Latencies(
        sorted(ms - requests[at].broker_ms for at, ms in answered.items()),
        sorted(ms - requests[at].scheduled_ms for at, ms in answered.items()),
        len(requests) - len(answered),
    )


def per_transaction_us(seconds: float, transactions: int) -> float:
    """CPU seconds spread over *transactions*, in microseconds."""
    return round(1e6 * seconds / transactions, 1)
