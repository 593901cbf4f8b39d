"""The timeline of a demo: what was measured is in the slice where it happened, and nothing is lost between slices."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerline.demo.killed import Killed
from ledgerline.demo.timeline import MAX_SLICES, WIDTHS_S, Stand, Timeline, course_of
from tests.ledgerline.demo.recorded import BEGAN_MS, KILLED, PARTITIONS, REQUESTS, timeline


def of(answers: Sequence[tuple[int, int, int]]) -> Timeline:
    """A timeline of (partition, received, answered), in ms from the beginning."""
    found = Timeline()
    for partition, received_ms, answered_ms in answers:
        found.answered(partition, BEGAN_MS + received_ms, BEGAN_MS + answered_ms)
    return found


def test_a_request_counts_where_it_was_received_and_its_outcome_where_it_was_published() -> None:
    course = course_of(of([(0, 0, 5), (0, 900, 2_100), (1, 999, 1_000)]), 2, None)
    assert [one.received for one in course.everything.slices] == [3, 0, 0]
    assert [one.answered for one in course.everything.slices] == [1, 1, 1]
    assert [one.unanswered for one in course.everything.slices] == [2, 1, 0]


def test_a_latency_belongs_to_the_slice_of_the_request_and_an_empty_slice_has_none() -> None:
    course = course_of(of([(0, 0, 5), (0, 900, 2_100)]), 1, None)
    assert [(one.p50_ms, one.p99_ms) for one in course.everything.slices] == [(5, 1_200), (None, None), (None, None)]
    assert course.everything.latencies_ms == [5, 1_200]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400_000), st.integers(0, 60_000)), min_size=1, max_size=60))
def test_slices_of_any_group_add_up_to_all_its_requests(raw: list[tuple[int, int, int]]) -> None:
    course = course_of(of([(p, received, received + took) for p, received, took in raw]), PARTITIONS, KILLED)
    assert course.number <= MAX_SLICES
    for group in (course.everything, *course.groups, *course.partitions):
        mine = [one for one in raw if one[0] in group.partitions]
        assert sum(one.received for one in group.slices) == sum(one.answered for one in group.slices) == len(mine)
        assert group.slices[-1].unanswered == 0
        assert min(one.unanswered for one in group.slices) >= 0
        assert group.latencies_ms == sorted(took for _, _, took in mine)
    assert sum(len(group.latencies_ms) for group in course.groups) == len(raw)
    assert sum(len(group.latencies_ms) for group in course.partitions) == len(raw)


def test_the_partitions_of_the_killed_worker_stand_beside_the_others() -> None:
    course = course_of(timeline(), PARTITIONS, KILLED)
    lost, others = course.groups
    assert (lost.partitions, others.partitions) == (frozenset({0, 2}), frozenset({1, 3}))
    assert "worker-1" in lost.name
    assert (lost.slices[3].answered, others.slices[3].answered) == (0, 50)
    assert (lost.slices[3].p50_ms or 0) > 1_000
    assert max(one.p99_ms or 0 for one in others.slices) == 4
    assert lost.most_unanswered == 125
    assert others.most_unanswered == 0


@pytest.mark.parametrize("owned", [frozenset[int](), frozenset(range(PARTITIONS))])
def test_a_killed_worker_that_owned_all_or_nothing_leaves_one_group(owned: frozenset[int]) -> None:
    course = course_of(timeline(), PARTITIONS, Killed(name="worker-1", partitions=owned, at_ms=KILLED.at_ms))
    assert [len(group.latencies_ms) for group in course.groups] == [REQUESTS]


def test_without_a_kill_there_is_one_group() -> None:
    course = course_of(timeline(None), PARTITIONS, None)
    assert [group.name for group in course.groups] == ["all partitions"]


def test_a_longer_run_has_wider_slices() -> None:
    for duration_s, width_s in ((100, 1), (149, 1), (151, 2), (1_000, 10), (4 * 86_400, 3_600)):
        course = course_of(of([(0, 0, 1), (0, 1_000 * duration_s, 1_000 * duration_s)]), 1, None)
        assert course.width_s == width_s
        assert course.width_s in WIDTHS_S
        assert course.number <= MAX_SLICES


def test_what_postgres_booked_is_interpolated_at_the_ends_of_slices_and_adds_up() -> None:
    found = of([(0, 0, 3_100)])
    for at_ms, known, booked in ((-500, 100, 100), (500, 140, 120), (1_500, 160, 160), (2_500, 200, 180)):
        found.stood(Stand(at_ms=BEGAN_MS + at_ms, known=known, booked=booked))
    course = course_of(found, 1, None)
    assert [one.events for one in course.booked] == [30, 30, 10, 0]
    assert [one.behind for one in course.booked] == [20, 0, 20, None]


def test_before_the_first_look_it_is_not_known_what_postgres_booked() -> None:
    found = of([(0, 0, 2_500)])
    found.stood(Stand(at_ms=BEGAN_MS + 1_500, known=7, booked=5))
    assert [one.events for one in course_of(found, 1, None).booked] == [None, None, 0]


def test_postgres_ahead_of_what_was_seen_is_not_behind() -> None:
    found = of([(0, 0, 10)])
    found.stood(Stand(at_ms=BEGAN_MS, known=5, booked=9))
    assert [one.behind for one in course_of(found, 1, None).booked] == [0]


def test_forgetting_keeps_what_postgres_held_as_the_base() -> None:
    found = of([(0, -90_000, -80_000)])
    found.stood(Stand(at_ms=BEGAN_MS - 80_000, known=10, booked=3))
    found.stood(Stand(at_ms=BEGAN_MS - 1_000, known=10, booked=10))
    found.forget()
    found.answered(0, BEGAN_MS, BEGAN_MS + 4)
    found.stood(Stand(at_ms=BEGAN_MS + 1_000, known=30, booked=30))
    course = course_of(found, 1, None)
    assert course.began_ms == BEGAN_MS
    assert [one.events for one in course.booked] == [10, 0]
    assert course.everything.latencies_ms == [4]
