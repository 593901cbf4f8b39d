"""Every scenario holds, and together they meet every reason code."""

from pathlib import Path

import pytest

from schemas.reasons import Reason
from tests.scenarios.runner import FOLDER, ScenarioFailed, run_scenario

SCENARIOS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_scenario_comes_out_as_written(path: Path) -> None:
    run_scenario(path.read_text())


def test_the_scenarios_meet_every_reason_code() -> None:
    met: set[str] = set().union(*(run_scenario(path.read_text()).reasons for path in SCENARIOS))
    assert met == {reason.value for reason in Reason}


def test_a_wrong_expectation_fails_and_names_its_line() -> None:
    with pytest.raises(ScenarioFailed, match=r"line 2: withdraw r1 alice 1\.01 -> accepted"):
        run_scenario("open alice EUR 1.00\nwithdraw r1 alice 1.01 -> accepted")


def test_a_replay_is_not_taken_for_a_first_answer() -> None:
    with pytest.raises(ScenarioFailed, match="line 3"):
        run_scenario("open alice EUR 1.00\nwithdraw r1 alice 1.00 -> accepted\nwithdraw r1 alice 1.00 -> accepted")
