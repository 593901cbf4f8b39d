"""What ``docker-compose.yml``, the ``Dockerfile`` and ``ops/prometheus`` say, as data."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from ruamel.yaml import YAML

from sinks.postgres.metrics import SinkMetrics
from streams.metrics import WorkerMetrics

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE: Final = ROOT / "docker-compose.yml"
DOCKERFILE: Final = ROOT / "Dockerfile"
PROMETHEUS: Final = ROOT / "ops" / "prometheus" / "prometheus.yml"
ALERTS: Final = ROOT / "ops" / "prometheus" / "alerts.yml"

Yaml = dict[str, Any]


def yaml(file: Path) -> Yaml:
    """The document in *file*, anchors and merges resolved."""
    loaded = YAML(typ="safe", pure=True).load(file.read_text())
    assert isinstance(loaded, dict)
    return loaded


def services() -> dict[str, Yaml]:
    """The services of the compose file by name."""
    found: dict[str, Yaml] = yaml(COMPOSE)["services"]
    return found


def ours() -> dict[str, Yaml]:
    """Those that run this project's image."""
    return {name: service for name, service in services().items() if "build" in service}


def instructions() -> list[tuple[str, list[str]]]:
    """The instructions of the Dockerfile with their words, in order."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, words) for name, *words in (shlex.split(line) for line in lines)]


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets with ENV."""
    pairs = [word.partition("=") for name, words in instructions() if name == "ENV" for word in words]
    return {name: value for name, _, value in pairs}


def environment(service: Yaml) -> dict[str, str]:
    """What a process of *service* finds in its environment; ``${…}`` is not replaced."""
    return image_environment() | {name: str(value) for name, value in service["environment"].items()}


def pins(file: Path) -> dict[str, list[str]]:
    """Each pinned package of a requirements file with its version, marker and hashes."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if line[:1].isalnum():
            name, _, version = line.removesuffix(" \\").partition("==")
            found[name] = [version]
        elif line.strip().startswith("--hash="):
            found[name].append(line.strip().removesuffix(" \\"))
    return found


def as_in_the_image(*arguments: str) -> list[str]:
    """The command line of ``ledgerline *arguments*`` in this interpreter, without what the image does not install."""
    lacking = pins(ROOT / "requirements.txt").keys() - pins(ROOT / "ops/requirements-runtime.txt").keys()
    script = (
        "import importlib.metadata as m, sys\n"
        "lacking = set(sys.argv.pop().split(','))\n"
        "for module, owners in m.packages_distributions().items():\n"
        "    if {owner.lower().replace('_', '-').replace('.', '-') for owner in owners} <= lacking:\n"
        "        sys.modules[module] = None\n"
        "from ledgerline.cli.app import main\n"
        "main()\n"
    )
    return [sys.executable, "-c", script, *arguments, ",".join(sorted(lacking))]


def health_url(service: Yaml) -> SplitResult:
    """Where the health check of *service* asks."""
    found = re.search(r"http://[^'\" ]+", " ".join(service["healthcheck"]["test"]))
    assert found is not None
    return urlsplit(found[0])


def alerts() -> list[Yaml]:
    """Every alert rule."""
    return [rule for group in yaml(ALERTS)["groups"] for rule in group["rules"]]


def exported() -> dict[str, frozenset[str]]:
    """Each sample that a worker or a sink exports, by its name on the wire, with the names of its labels.

    ``_created`` and the parts of histograms are among them.
    """
    registry = CollectorRegistry()
    made = [*vars(WorkerMetrics(registry)).items(), *vars(SinkMetrics(registry)).items()]
    found: dict[str, frozenset[str]] = {}
    for name, metric in made:
        if name.startswith("_"):  # what labels() gave, kept
            continue
        assert isinstance(metric, MetricWrapperBase)
        if metric._labelnames:
            metric.labels(*("x" for _ in metric._labelnames))  # without a child there is no sample
        for family in metric.collect():
            found |= {sample.name: frozenset(sample.labels) for sample in family.samples}
    return found
