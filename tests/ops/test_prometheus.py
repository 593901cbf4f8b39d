"""Prometheus scrapes what docker-compose.yml runs, and the alerts name what the processes export."""

import re

import pytest

from tests.ops.deployment import ALERTS, PROMETHEUS, ROOT, Yaml, alerts, environment, exported, ours, services, yaml

RULES = alerts()
OWN_LABELS = {"job", "instance"}
"""Added by Prometheus."""


def metrics(expression: str) -> set[str]:
    """The metrics of ours in a PromQL expression."""
    return set(re.findall(r"\bledgerline_\w+", re.sub(r'"[^"]*"', '""', expression)))


def labels(expression: str) -> set[str]:
    """The labels in the selectors and groupings of a PromQL expression."""
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {*selected, *(name.strip() for group in grouped for name in group.split(","))}


def test_every_target_is_a_service_and_the_port_on_which_it_serves() -> None:
    jobs: dict[str, list[str]] = {
        job["job_name"]: [target for config in job["static_configs"] for target in config["targets"]]
        for job in yaml(PROMETHEUS)["scrape_configs"]
    }
    serving = {
        f"{name}:{environment(service)['LEDGERLINE_HTTP'].rpartition(':')[2]}": service["command"][0]
        for name, service in ours().items()
        if "healthcheck" in service
    }
    found = {target: job.removeprefix("ledgerline-") for job, targets in jobs.items() for target in targets}
    assert found == serving
    assert {job["metrics_path"] for job in yaml(PROMETHEUS)["scrape_configs"]} == {"/metrics"}


def test_the_rules_that_are_loaded_exist_where_the_container_sees_them() -> None:
    assert yaml(PROMETHEUS)["rule_files"] == [ALERTS.name]
    mounted = dict(volume.split(":")[:2] for volume in services()["prometheus"]["volumes"])
    assert mounted["./ops/prometheus"] == "/etc/prometheus"
    assert ALERTS.parent == PROMETHEUS.parent == ROOT / "ops" / "prometheus"


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_names_metrics_and_labels_that_the_processes_export(rule: Yaml) -> None:
    known = exported()
    found = metrics(rule["expr"])
    assert found <= known.keys()
    assert found or rule["alert"] == "LedgerlineProcessDown"
    allowed = OWN_LABELS.union(*(known[name] for name in found))
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert labels(rule["expr"]) | shown <= allowed


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_summary_shows_only_labels_that_its_expression_keeps(rule: Yaml) -> None:
    """``max by (partition) (…)`` has no other label left."""
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    grouped = re.search(r"\b(?:max|sum|group) (?:by \(([^)]*)\) )?\(", rule["expr"]) or re.search(
        r"\b(?:max|sum)\(()", rule["expr"]
    )
    if grouped is not None:
        assert shown <= {name.strip() for name in (grouped[1] or "").split(",")}


def test_every_alert_has_a_severity_and_a_sentence() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert len(rule["annotations"]["summary"]) > 20
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))


def test_the_labels_of_an_expression_are_found() -> None:
    expression = 'sum by (a, b) (x{c="1", d=~"2"} offset 5m) unless on (e) y == 1'
    assert labels(expression) == {"a", "b", "c", "d", "e"}
