"""What ``docker-compose.yml`` and the ``Dockerfile`` name exists. The containers themselves are not run here."""

import fnmatch
import re
import subprocess
import sys
import tomllib
from urllib.parse import urlsplit

import pytest

from ledgerline.settings import Settings
from streams.worker import DRAIN_TIMEOUT_S, REPLIES_TIMEOUT_S
from tests.ledgerline.commands import ledgerline
from tests.ops.deployment import (
    COMPOSE,
    ROOT,
    as_in_the_image,
    environment,
    health_url,
    image_environment,
    instructions,
    ours,
    pins,
    services,
    yaml,
)

OURS = list(ours())
PINNED = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)?:v?\d+\.\d+\.?\d*[a-z0-9.-]*")
"""A name without a host in front, and a tag that begins with a version."""


def seconds(text: str) -> float:
    """Of a duration of a compose file, such as 40s."""
    return float(text.removesuffix("s"))


def test_the_compose_file_follows_the_compose_specification() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_there_are_the_servers_an_init_two_workers_a_sink_and_prometheus() -> None:
    assert set(services()) == {"kafka", "postgres", "init", "worker-1", "worker-2", "sink", "prometheus"}
    assert set(OURS) == {"init", "worker-1", "worker-2", "sink"}


def test_every_image_is_pinned_to_a_version_and_names_no_registry() -> None:
    images = [service["image"] for service in services().values()]
    bases = [words[0] for name, words in instructions() if name == "FROM"]
    for image in images + bases:
        assert PINNED.fullmatch(image), image
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service["image"] for service in ours().values()} == {f"ledgerline:{version}"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_a_service_exists_with_its_options(name: str) -> None:
    assert ledgerline(*ours()[name]["command"], "--help").code == 0
    assert ledgerline(*ours()[name]["command"], "--no-such-option", "--help").code == 2


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_service_is_a_setting_and_its_value_is_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {key: value for key, value in environment(ours()[name]).items() if key.startswith("LEDGERLINE_")}
    assert {key.removeprefix("LEDGERLINE_").lower() for key in given} <= set(Settings.model_fields)
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.kafka == "kafka:9092"
    assert settings.postgres is not None
    assert settings.dev, "one broker needs the waiver"


def test_passwords_come_from_the_environment_and_from_nowhere_else() -> None:
    given = [item for s in services().values() for item in s.get("environment", {}).items() if "PASSWORD" in item[0]]
    assert len(given) == 7
    for name, value in given:
        assert re.fullmatch(r"\$\{[A-Z]+_PASSWORD:\?is missing in \.env, see docs/operations\.md\}", value), name
    for name in OURS:
        assert urlsplit(ours()[name]["environment"]["LEDGERLINE_POSTGRES"]).password is None
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_each_process_logs_in_as_a_user_that_the_database_makes() -> None:
    made = set(re.findall(r"CREATE ROLE (\w+) LOGIN", (ROOT / "ops/postgres/logins.sql").read_text()))
    users = {name: urlsplit(ours()[name]["environment"]["LEDGERLINE_POSTGRES"]).username for name in OURS}
    assert users == {
        "init": "postgres",
        "worker-1": "ledgerline_worker",
        "worker-2": "ledgerline_worker",
        "sink": "ledgerline_sink",
    }
    assert made == {"ledgerline_worker", "ledgerline_sink"}


def test_addresses_lead_to_services_and_ports_on_which_they_listen() -> None:
    kafka = services()["kafka"]["environment"]
    listening = {part.split("://")[0]: part.rpartition(":")[2] for part in kafka["KAFKA_LISTENERS"].split(",")}
    told = dict(part.split("://") for part in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert told == {"INSIDE": f"kafka:{listening['INSIDE']}", "OUTSIDE": f"localhost:{listening['OUTSIDE']}"}
    assert kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"1@kafka:{listening['CONTROLLER']}"
    for name in OURS:
        given = environment(ours()[name])
        assert given["LEDGERLINE_KAFKA"] == told["INSIDE"]
        at = urlsplit(given["LEDGERLINE_POSTGRES"])
        assert (at.hostname, at.port, at.path) == ("postgres", 5432, "/ledgerline")
    assert services()["postgres"]["environment"]["POSTGRES_DB"] == "ledgerline"


def test_published_ports_are_open_on_this_machine_only_and_lead_to_a_listening_server() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {
        "kafka": ["127.0.0.1:29092:29092"],  # the same on both sides: clients are told OUTSIDE's address
        "postgres": ["127.0.0.1:25432:5432"],
        "prometheus": ["127.0.0.1:29090:9090"],
    }


@pytest.mark.parametrize("name", [name for name in OURS if name != "init"])
def test_a_process_is_healthy_when_readyz_says_so_where_it_is_served(name: str) -> None:
    url, http = health_url(ours()[name]), environment(ours()[name])["LEDGERLINE_HTTP"]
    assert (url.hostname, url.path) == ("127.0.0.1", "/readyz")
    assert http == f"0.0.0.0:{url.port}"
    assert ("EXPOSE", [str(url.port)]) in instructions()


def test_processes_start_when_what_they_need_is_there() -> None:
    waits = {
        name: {other: wanted["condition"] for other, wanted in service.get("depends_on", {}).items()}
        for name, service in services().items()
    }
    initialised = {"init": "service_completed_successfully"}
    assert waits == {
        "kafka": {},
        "postgres": {},
        "init": {"kafka": "service_healthy", "postgres": "service_healthy"},
        "worker-1": initialised,
        "worker-2": initialised,
        "sink": initialised,
        "prometheus": {},
    }
    healthy = {other for conditions in waits.values() for other, is_ in conditions.items() if is_ == "service_healthy"}
    assert all("healthcheck" in services()[other] for other in healthy)
    assert services()["init"]["restart"] == "no", "a service that is awaited to complete must not be started again"


def test_a_worker_may_drain_before_it_is_killed() -> None:
    for name in ("worker-1", "worker-2"):
        assert seconds(services()[name]["stop_grace_period"]) > DRAIN_TIMEOUT_S + REPLIES_TIMEOUT_S


def test_every_mounted_file_and_every_named_volume_exists() -> None:
    named = yaml(COMPOSE)["volumes"].keys()
    sources = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    assert named == {source for source in sources if not source.startswith(".")}
    for source in sources:
        assert not source.startswith(".") or (ROOT / source).exists(), source


def test_data_lies_where_its_server_keeps_it() -> None:
    kafka, postgres = services()["kafka"], services()["postgres"]
    assert f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}" in kafka["volumes"]
    assert "postgres-data:/var/lib/postgresql" in postgres["volumes"]


def test_every_copied_file_exists_is_in_git_and_reaches_the_builder() -> None:
    copied = [word for name, words in instructions() if name == "COPY" for word in words[:-1]]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    passed = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert sorted(copied) == sorted(passed)
    for name in copied:
        assert fnmatch.filter(tracked.splitlines(), f"{name}*"), name


def test_the_image_holds_every_package_of_the_project_and_no_root_user() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {words[0] for name, words in instructions() if name == "COPY"}
    assert {pattern.removesuffix("*") for pattern in listed} <= copied
    assert [words for name, words in instructions() if name == "USER"][-1] == ["ledgerline"]
    assert image_environment()["LEDGERLINE_HOME"] == "/var/lib/ledgerline"


def test_the_image_installs_exactly_the_pinned_runtime_requirements() -> None:
    every, runtime = pins(ROOT / "requirements.txt"), pins(ROOT / "ops/requirements-runtime.txt")
    assert runtime.items() <= every.items(), "run `make lock`"
    assert all(len(pin) > 1 for pin in runtime.values()), "each needs hashes"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[\[<>=~ ]", line)[0] for line in project["dependencies"]}
    extras = {re.split(r"[\[<>=~ ]", line)[0] for extra in project["optional-dependencies"].values() for line in extra}
    assert direct <= runtime.keys(), "run `make lock`"
    assert not extras & runtime.keys()


@pytest.mark.parametrize("name", OURS)
def test_a_command_loads_without_what_the_image_lacks(name: str) -> None:
    arguments = as_in_the_image(*ours()[name]["command"], "--help")
    ran = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", OURS)
def test_each_process_gets_all_it_needs_and_no_rights_of_root(name: str) -> None:
    service = ours()[name]
    needed = {"LEDGERLINE_KAFKA", "LEDGERLINE_PREFIX", "LEDGERLINE_POSTGRES", "PGPASSWORD"}
    assert needed <= service["environment"].keys()
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
