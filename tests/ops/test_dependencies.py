"""Every dependency has its line, with the version that is really pinned."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def declared() -> set[str]:
    """Names of the packages that pyproject.toml asks for directly."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {re.split(r"[\[<>=~ ]", line)[0] for line in lines}


def documented() -> dict[str, str]:
    """Package name to version, from the tables of docs/dependencies.md."""
    rows = re.findall(
        r"^\| ([a-z0-9-]+)(?: `\[\w+\]`)? \| ([0-9.]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def pinned() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


def test_every_direct_dependency_is_explained_and_no_other() -> None:
    assert documented().keys() == declared()


def test_the_explained_versions_are_the_pinned_ones() -> None:
    pins = pinned()
    assert {name: version for name, version in documented().items() if name in pins} == {
        name: pins[name] for name in documented().keys() & pins.keys()
    }
    assert documented().keys() - pins.keys() == {"faust-streaming"}  # declared, not in the default install
