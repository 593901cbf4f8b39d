"""What was measured while the payments were played, and the same in slices of time."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from math import ceil
from typing import Final, NamedTuple

from ledgerline.demo.killed import Killed

MAX_SLICES: Final = 150
WIDTHS_S: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600)
"""A slice is as narrow as these allow for at most 150 slices; in a demo of more than six days there are more."""


class Stand(NamedTuple):
    """How far Postgres was at a moment of this machine's clock: events that the outcomes told of, events booked."""

    at_ms: int
    known: int
    booked: int


class Timeline:
    """Every answered request with the brokers' timestamps, and how far Postgres was. Mutable, 18 bytes per request."""

    def __init__(self) -> None:
        self._partitions = array("H")
        self._received_ms = array("q")
        self._answered_ms = array("q")
        self._stands: list[Stand] = []

    def answered(self, partition: int, received_ms: int, answered_ms: int) -> None:
        """Take in a request of *partition* and its first outcome."""
        self._partitions.append(partition)
        self._received_ms.append(received_ms)
        self._answered_ms.append(answered_ms)

    def stood(self, stand: Stand) -> None:
        """Take in how far Postgres is."""
        self._stands.append(stand)

    def forget(self) -> None:
        """Begin anew, with what Postgres holds now as the base of what will be counted."""
        del self._partitions[:], self._received_ms[:], self._answered_ms[:], self._stands[:-1]

    def answers(self) -> Iterable[tuple[int, int, int]]:
        """Return (partition, received, answered) of each request; times in ms since 1970."""
        return zip(self._partitions, self._received_ms, self._answered_ms, strict=True)

    @property
    def bounds_ms(self) -> tuple[int, int]:
        """The first request received and the last thing that happened. Something was answered before."""
        return min(self._received_ms), max(chain(self._answered_ms, (stand.at_ms for stand in self._stands)))

    @property
    def stands(self) -> Sequence[Stand]:
        """How far Postgres was, in order of time."""
        return self._stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A slice of time of one group. Latencies are those of the requests received in it; None if there were none."""

    received: int
    answered: int
    unanswered: int
    """Requests received and not answered at the end of the slice."""
    p50_ms: int | None
    p99_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Some partitions together."""

    name: str
    partitions: frozenset[int]
    slices: tuple[Slice, ...]
    latencies_ms: Sequence[int]
    """All of them, ascending."""

    @property
    def most_unanswered(self) -> int:
        """The highest number of unanswered requests at the end of a slice."""
        return max(one.unanswered for one in self.slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """Postgres in a slice: events booked, interpolated between looks; at the worst, events known and not booked."""

    events: float | None
    behind: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A run in slices of *width_s*, from the first request received at *began_ms* (ms since 1970)."""

    began_ms: int
    width_s: int
    everything: Group
    groups: tuple[Group, ...]
    """Those of the killed worker and the others; one group if nobody was killed, or owned all or none."""
    partitions: tuple[Group, ...]
    booked: tuple[Booked, ...]

    @property
    def number(self) -> int:
        """How many slices there are."""
        return len(self.booked)

    def seconds(self, at_ms: int) -> float:
        """Return the seconds from the beginning to *at_ms*."""
        return (at_ms - self.began_ms) / 1000


def course_of(timeline: Timeline, partitions: int, killed: Killed | None) -> Course:
    """Cut *timeline* in slices, for all *partitions* together, each alone, and those of *killed* beside the others."""
    began_ms, ended_ms = timeline.bounds_ms
    width_s = next((w for w in WIDTHS_S if (ended_ms - began_ms) // (1000 * w) < MAX_SLICES), WIDTHS_S[-1])
    width_ms = 1000 * width_s
    number = (ended_ms - began_ms) // width_ms + 1
    alone = [_Counts(number) for _ in range(partitions)]
    for partition, received_ms, answered_ms in timeline.answers():
        counts, received = alone[partition], (received_ms - began_ms) // width_ms
        counts.received[received] += 1
        counts.answered[max(0, answered_ms - began_ms) // width_ms] += 1
        counts.latencies_ms[received].append(answered_ms - received_ms)
    everything = frozenset(range(partitions))
    return Course(
        began_ms=began_ms,
        width_s=width_s,
        everything=_group("all partitions", everything, alone),
        groups=tuple(_group(name, members, alone) for name, members in _sides(everything, killed) if members),
        partitions=tuple(_group(str(p), frozenset({p}), alone) for p in range(partitions)),
        booked=_booked(timeline.stands, began_ms, width_ms, number),
    )


def _sides(everything: frozenset[int], killed: Killed | None) -> list[tuple[str, frozenset[int]]]:
    if killed is None:
        return [("all partitions", everything)]
    lost = everything & killed.partitions
    return [(f"partitions of {killed.name}, killed", lost), ("the other partitions", everything - lost)]


class _Counts:
    """One partition's requests, by slice."""

    def __init__(self, number: int) -> None:
        self.received = [0] * number
        self.answered = [0] * number
        self.latencies_ms: list[list[int]] = [[] for _ in range(number)]


def _group(name: str, members: frozenset[int], alone: Sequence[_Counts]) -> Group:
    counts = [alone[partition] for partition in sorted(members)]
    received = [sum(each) for each in zip(*(one.received for one in counts), strict=True)]
    answered = [sum(each) for each in zip(*(one.answered for one in counts), strict=True)]
    latencies = [list(chain(*each)) for each in zip(*(one.latencies_ms for one in counts), strict=True)]
    unanswered = accumulate(came - went for came, went in zip(received, answered, strict=True))
    return Group(
        name=name,
        partitions=members,
        slices=tuple(
            Slice(received=r, answered=a, unanswered=u, p50_ms=percentile(ms, 0.50), p99_ms=percentile(ms, 0.99))
            for r, a, u, ms in zip(received, answered, unanswered, latencies, strict=True)
        ),
        latencies_ms=sorted(chain(*latencies)),
    )


def _booked(stands: Sequence[Stand], began_ms: int, width_ms: int, number: int) -> tuple[Booked, ...]:
    """What Postgres booked in each slice, interpolated at its ends; before the first look it is not known."""
    behind: list[int | None] = [None] * number
    for stand in stands:
        if stand.at_ms >= began_ms:
            slot = (stand.at_ms - began_ms) // width_ms
            behind[slot] = max(behind[slot] or 0, stand.known - stand.booked)
    ends = [_held(stands, at_ms) for at_ms in range(began_ms, began_ms + (number + 1) * width_ms, width_ms)]
    events = (None if first is None or last is None else last - first for first, last in pairwise(ends))
    return tuple(Booked(events=each, behind=worst) for each, worst in zip(events, behind, strict=True))


def _held(stands: Sequence[Stand], at_ms: int) -> float | None:
    """Return how many events Postgres held at *at_ms*; after the last look it is what that one found."""
    after = bisect_right(stands, at_ms, key=lambda stand: stand.at_ms)
    if after == 0:
        return None
    before = stands[after - 1]
    if after == len(stands):
        return before.booked
    then = stands[after]
    share = (at_ms - before.at_ms) / (then.at_ms - before.at_ms)
    return before.booked + share * (then.booked - before.booked)


def percentile(values: Sequence[int], share: float) -> int | None:
    """Return the smallest of *values* that is not below *share* of them (nearest rank); ``None`` for no values."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
