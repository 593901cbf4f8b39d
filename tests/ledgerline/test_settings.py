"""What a person may set, and what they are told when it is wrong."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerline.errors import ConfigurationError, UnreachableError
from ledgerline.settings import database_name, load_settings, resolve, with_database
from ledgerline.stack import kafka


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's, an empty home, an empty current folder."""
    for name in [name for name in os.environ if name.startswith("LEDGERLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LEDGERLINE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ledgerline.toml").write_text('prefix = "file."\nhttp = "127.0.0.1:9100"\n')
    monkeypatch.setenv("LEDGERLINE_PREFIX", "environment.")
    settings = load_settings()
    assert settings.prefix == "environment."
    assert settings.http_address == ("127.0.0.1", 9100)

    (tmp_path / "other.toml").write_text("partitions = 3\n")
    monkeypatch.setenv("LEDGERLINE_CONFIG", "other.toml")
    assert load_settings().partitions == 3
    assert load_settings().http_address == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LEDGERLINE_KAFKA", "localhost", "LEDGERLINE_KAFKA (kafka in the TOML file): expected host:port"),
        ("LEDGERLINE_KAFKA", "a:1,b:70000", "got 'a:1,b:70000'"),
        ("LEDGERLINE_HTTP", "9100", "expected host:port with a port from 0 to 65535, got '9100'"),
        ("LEDGERLINE_PARTITIONS", "0", "greater than or equal to 1, got '0'"),
        ("LEDGERLINE_PARTITIONS", "many", "valid integer, unable to parse string as an integer, got 'many'"),
        ("LEDGERLINE_PREFIX", "a b", "expected 1 to 100 of the characters"),
        ("LEDGERLINE_LOG_FORMAT", "xml", "'json' or 'console', got 'xml'"),
        ("LEDGERLINE_CONFIG", "nosuch.toml", "LEDGERLINE_CONFIG: expected a TOML file, 'nosuch.toml' is none"),
    ],
)
def test_a_wrong_value_is_named_with_its_expectation(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert told in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_wrong_dsn_is_not_repeated_because_it_may_hold_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERLINE_POSTGRES", "mysql://u:secret@h/d")
    with pytest.raises(ConfigurationError, match=r"expected postgresql://") as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ledgerline.toml"
    file.write_text("prefx = 'x.'\n")
    with pytest.raises(ConfigurationError, match="prefx: there is no such setting; the settings are cache, dev"):
        load_settings()
    file.write_text("prefix = \n")
    with pytest.raises(ConfigurationError, match=r"ledgerline\.toml: not valid TOML: .*line 1"):
        load_settings()


def test_without_a_stack_the_missing_servers_and_the_remedy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreachableError, match=r"no Kafka and PostgreSQL: .*run `ledgerline up --detach`"):
        resolve(load_settings())
    monkeypatch.setenv("LEDGERLINE_KAFKA", "10.0.0.1:9092")
    with pytest.raises(UnreachableError, match=r"no PostgreSQL: "):
        resolve(load_settings())


def test_servers_of_ones_own_are_used_as_they_are_and_get_64_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERLINE_KAFKA", "10.0.0.1:9092,10.0.0.2:9092")
    monkeypatch.setenv("LEDGERLINE_POSTGRES", "postgresql://u:p@10.0.0.2/ledger")
    servers = resolve(load_settings())
    assert (servers.kafka, servers.postgres) == ("10.0.0.1:9092,10.0.0.2:9092", "postgresql://u:p@10.0.0.2/ledger")
    assert (servers.postgres_admin, servers.partitions, servers.dev) == (None, 64, False)


@pytest.mark.integration
def test_the_local_stack_gives_the_prefixs_database_8_partitions_and_development_mode(
    monkeypatch: pytest.MonkeyPatch, kafka: str, postgres: str, stack_home: Path
) -> None:
    monkeypatch.setenv("LEDGERLINE_HOME", str(stack_home))
    monkeypatch.setenv("LEDGERLINE_PREFIX", "other.")
    servers = resolve(load_settings())
    assert servers.kafka == kafka
    assert servers.postgres_admin == postgres
    assert servers.postgres == with_database(postgres, "other")
    assert (servers.partitions, servers.dev) == (8, True)

    monkeypatch.setenv("LEDGERLINE_KAFKA", kafka)  # the local stack's address implies it, however it was given
    assert resolve(load_settings()).dev


def test_a_state_file_that_names_another_process_is_no_stack(tmp_path: Path) -> None:
    layout = load_settings().layout
    layout.root.mkdir(parents=True)
    kafka_entry = {"pid": os.getpid(), "address": "127.0.0.1:1"}
    layout.state.write_text(json.dumps({"format": 1, "kafka": kafka_entry, "postgres": None}))
    assert kafka.find(layout) is None
    with pytest.raises(UnreachableError):
        resolve(load_settings())


def test_the_default_prefix_has_the_plain_database() -> None:
    assert database_name("ledgerline.") == "ledgerline"
    assert database_name("postgres.") != "postgres"
    assert (
        with_database("postgresql://postgres@/postgres?host=%2Frun/x", "l") == "postgresql://postgres@/l?host=%2Frun/x"
    )


PREFIXES = st.text("aA._", min_size=1, max_size=3) | st.text("abAB01._-", min_size=1, max_size=100)


@given(PREFIXES, PREFIXES)
def test_two_prefixes_never_share_a_database(one: str, other: str) -> None:
    assert (database_name(one) == database_name(other)) == (one == other)
    assert len(database_name(one).encode()) <= 63
