"""The jars of Apache Kafka: resolved once with jgo, checked against the committed list of SHA-256 at every start."""

import contextlib
import hashlib
import importlib.resources
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ledgerline.errors import ConfigurationError, UnreachableError

KAFKA_VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-nop:1.7.36"

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)

Report = Callable[[str], None]


def expected_jars() -> dict[str, str]:
    """Return the committed list: jar name to SHA-256 in lower-case hex."""
    text = (importlib.resources.files("ledgerline.stack") / "kafka-jars.sha256").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def kafka_jars(folder: Path, report: Report) -> list[Path]:
    """Return the broker's jars in *folder*, downloading them first if it does not exist.

    The download goes to a folder beside it, is checked, and only then takes its name, so that a killed download leaves
    nothing that a later start would take for complete.

    Raises UnreachableError if the download fails, ConfigurationError for a jar that is not the listed one.
    """
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        download(partial, report)
        ready = partial / "checked"
        check(ready, expected_jars(), todo=f"the repository served another file; delete {partial} and try again later")
        ready.rename(folder)
        shutil.rmtree(partial)
    check(folder, expected_jars(), todo=f"delete {folder} and run `ledgerline up` again: it downloads them anew")
    return sorted(folder.glob("*.jar"))


def check(folder: Path, expected: Mapping[str, str], todo: str) -> None:
    """Compare the jars in *folder* with *expected*. Raises ConfigurationError naming the first that differs."""
    found = {jar.name: jar for jar in folder.glob("*.jar")}
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise ConfigurationError(f"Kafka jar {name}: expected in {folder}, it is missing; {todo}")
        if name not in expected:
            raise ConfigurationError(f"Kafka jar {found[name]}: not in the list of expected jars; {todo}")
        digest = hashlib.sha256(found[name].read_bytes()).hexdigest()
        if digest != expected[name]:
            raise ConfigurationError(
                f"Kafka jar {found[name]}: expected SHA-256 {expected[name]}, got {digest}; {todo}"
            )


def download(partial: Path, report: Report) -> None:
    """Resolve and fetch the jars into ``partial/checked``. Raises UnreachableError with what jgo says."""
    try:
        from jgo.env import EnvironmentBuilder  # noqa: PLC0415 - slow to import, and needed only here
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415
    except ModuleNotFoundError as error:
        message = f'the package {error.name} is missing; install the local stack with pip install "ledgerline[stack]"'
        raise ConfigurationError(message) from error
    total = len(expected_jars())
    report(f"downloading Apache Kafka {KAFKA_VERSION}: resolving {total} jars (44 MB, once)")
    resolver = PythonResolver(progress_callback=progress(total, report))
    context = MavenContext(resolver=resolver, repo_cache=partial / "repository")
    try:
        with system_certificates():
            environment = EnvironmentBuilder(context=context, cache_dir=partial / "cache").from_endpoint(COORDINATES)
        (partial / "checked").mkdir()
        for jar in environment.path.rglob("*.jar"):
            shutil.move(jar.resolve(), partial / "checked" / jar.name)
    except Exception as error:  # jgo raises bare RuntimeErrors and whatever its HTTP client raises
        message = (
            f"Apache Kafka {KAFKA_VERSION} could not be downloaded from Maven Central:"
            f" {type(error).__name__}: {error}; check the network (behind a proxy set HTTPS_PROXY, and"
            " REQUESTS_CA_BUNDLE if it has a certificate of its own) and run the same command again, or set"
            " LEDGERLINE_KAFKA to a running broker"
        )
        raise UnreachableError(message) from error


@contextlib.contextmanager
def system_certificates() -> Iterator[None]:
    """Let jgo's HTTP client trust what this system, or pip on it, trusts; its own list lacks a company's proxy."""
    variable = "REQUESTS_CA_BUNDLE"
    named = (os.environ.get(name) for name in (variable, "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"))
    bundle = next((file for file in (*named, *SYSTEM_BUNDLES) if file and Path(file).is_file()), None)
    before = os.environ.get(variable)
    if bundle is not None:
        os.environ[variable] = bundle
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before


def progress(
    total: int, report: Report
) -> Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]:
    """Return jgo's callback, which reports every jar that is begun."""
    begun: set[str] = set()

    @contextlib.contextmanager
    def one_file(name: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
        if name.endswith(".jar"):
            begun.add(name)
            report(f"downloading Apache Kafka {KAFKA_VERSION}: {len(begun)}/{total} {name} ({size_bytes / 1e6:.1f} MB)")
        yield lambda _count: None

    return one_file
