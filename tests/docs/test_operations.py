"""``docs/operations.md`` says what the code does: settings, metrics, alerts, readiness, findings, causes of a halt."""

import re
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from ledgerline.settings import Settings
from sinks.postgres.metrics import SinkMetrics
from streams.admission import Reason
from streams.doctor import CheckName
from streams.journal.errors import JournalHalt
from streams.metrics import WorkerMetrics
from streams.status import Phase
from streams.topics import Topics
from streams.worker import MAX_REMEMBERED
from tests.docs.console import ROOT
from tests.ops.deployment import alerts, exported

PAGE = (ROOT / "docs" / "operations.md").read_text()
CODE = "\n".join(file.read_text() for folder in ("streams", "sinks") for file in (ROOT / folder).rglob("*.py"))


def table(heading: str, first_column: str) -> list[list[str]]:
    """The cells of the table that begins with *first_column*, below *heading*."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    below = next(part for part in section if part.startswith(f"{heading}\n"))
    rows = [line for line in below.splitlines() if line.startswith("|")]
    begin = next(number for number, row in enumerate(rows) if row.startswith(f"| {first_column} |"))
    found: list[list[str]] = []
    for row in rows[begin + 2 :]:
        if set(row) <= set("|-: "):  # the next table's rule: its header was taken for a row
            found.pop()
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]])
    return found


def quoted(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_setting_is_listed_with_its_default() -> None:
    rows = {quoted(row[0])[0]: row[1] for row in table("Configuration", "setting")}
    assert rows.keys() == {f"LEDGERLINE_{name.upper()}" for name in Settings.model_fields} | {"LEDGERLINE_CONFIG"}
    for name, field in Settings.model_fields.items():
        if field.default_factory is None and field.default is not None:
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert quoted(rows[f"LEDGERLINE_{name.upper()}"])[0] == default


def described(metrics: WorkerMetrics | SinkMetrics, of: str) -> set[tuple[str, str, frozenset[str], str]]:
    """Name on the wire, kind, labels and process of each metric."""
    found: set[tuple[str, str, frozenset[str], str]] = set()
    for name, metric in vars(metrics).items():
        if name.startswith("_"):  # what labels() gave, kept
            continue
        assert isinstance(metric, MetricWrapperBase)
        suffix = "_total" if metric._type == "counter" else ""
        found.add((metric._name + suffix, str(metric._type), frozenset(metric._labelnames), of))
    return found


def test_every_metric_is_listed_with_its_labels_and_no_other() -> None:
    rows = {
        (quoted(name)[0], kind, frozenset(quoted(labels)), of)
        for name, kind, labels, of, _ in table("Metrics", "metric")
    }
    registry = CollectorRegistry()
    assert rows == described(WorkerMetrics(registry), "worker") | described(SinkMetrics(registry), "sink")


def test_the_page_names_no_metric_that_is_not_exported() -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}
    in_text = {name for name in quoted(PAGE) if re.fullmatch(r"ledgerline_\w+", name)}
    roles = {"ledgerline_owner", "ledgerline_writer", "ledgerline_reader"}
    assert in_text - roles <= families | exported().keys()


def test_every_alert_is_listed_with_its_severity() -> None:
    rows = {quoted(row[0])[0]: row[1] for row in table("Alerts", "alert")}
    assert rows == {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}


def test_everything_that_readyz_can_say_is_explained() -> None:
    values: dict[str, list[str]] = {}
    field = ""
    for name, value, _ in table("Readiness", "field"):
        field = quoted(name)[0] if name else field
        values.setdefault(field, []).extend(quoted(value))
    assert values["phase"] == [phase.value for phase in Phase]
    assert set(values["held"]) == set(get_args(Reason))
    assert values["halted"] == ["topic", "offset", "sha256", "cause"]
    said = re.search(r"def _troubles.*?found = \{(.*?)\}", CODE, re.DOTALL)
    assert said is not None
    assert set(re.findall(r'"(\w+)":', said[1])) == values.keys() - {"phase", "held", "trouble", "halted"}


def test_every_finding_of_doctor_is_explained() -> None:
    assert [quoted(row[0])[0] for row in table("Kafka: what `doctor` demands", "finding")] == list(get_args(CheckName))


def test_the_sizes_that_doctor_demands_are_those_of_the_page() -> None:
    kib = {spec.name: spec.max_message_bytes // 1024 for spec in Topics("").specs(1)}
    assert kib == {
        "requests": 128,
        "journal": 8 * 1024,
        "config": 2 * 1024,
        **dict.fromkeys(("transfers", "outcomes", "facts", "labels"), 1024),
    }
    assert "8 MiB for `journal`, 2 MiB for `config`, 1 MiB for `outcomes`, `transfers`, `facts` and `labels`" in PAGE
    assert MAX_REMEMBERED * 9 // 10 == 18_000_000
    assert "18 million" in PAGE


def causes() -> list[str]:
    """What an operator looks for in the cause of a halt."""
    return [text for row in table("When a partition halts", "the cause holds") for text in quoted(row[0])]


def kinds(of: type[Any]) -> set[str]:
    return {kind.__name__ for kind in of.__subclasses__()}


def test_every_kind_of_journal_halt_has_its_way_back() -> None:
    assert kinds(JournalHalt) <= set(causes())


def test_the_causes_of_a_halt_are_worded_as_the_code_words_them() -> None:
    known = {*kinds(JournalHalt), "topic", "offset", "sha256", "PostgreSQL: write seq"}
    joined = re.sub(r'"\s*\n\s*f?"', "", CODE)  # neighbouring parts of one message
    for cause in causes():
        assert cause in known or cause in joined, cause
    assert 'failures("write " + ' in CODE
    assert 'return f"seq {store.position.seq' in CODE
    assert 'f"PostgreSQL: {doing}' in CODE


def test_links_inside_the_page_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        assert not file or (ROOT / "docs" / file).exists(), target
        assert file or anchor in anchors, target
