"""Compile and run the Java examples on the local stack's Java runtime and jars.

The packaged runtime has no compiler, so Eclipse's comes along: one jar, fetched once like those of the broker, checked
against its SHA-256. Users run the same files with the ``java`` of a JDK, which compiles them itself.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ledgerline.settings import Settings
from ledgerline.stack.jars import kafka_jars, system_certificates
from ledgerline.stack.java import find_java

EXAMPLES = Path(__file__).parents[2] / "examples"
COMPILER = "3.46.100"
COMPILER_SHA256 = "74c93172475fee0cd4e6eefb44233516dd40525642da35d009146d97ea598229"
WITHIN_S = 120


def compile_examples(classes: Path) -> None:
    """Compile ``examples/java`` for Java 17, warnings being errors, into *classes*."""
    done = subprocess.run(
        [
            find_java(), "-jar", _compiler(), "-source", "17", "-target", "17", "-encoding", "UTF-8", "-proc:none",
            "-warn:unused,raw,unchecked", "-failOnWarning", "-classpath", _classpath(),
            "-d", classes, EXAMPLES / "java",
        ],
        capture_output=True, text=True, check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def java_command(classes: Path, name: str) -> list[str]:
    """The command that runs the compiled example *name*; its arguments follow."""
    return [str(find_java()), "-Xmx128m", "-cp", f"{classes}:{_classpath()}", name]


def run_example(classes: Path, name: str, arguments: Sequence[str], given: str = "") -> str:
    """Run the compiled example *name* with *given* as its input; return what it prints. It must exit with 0."""
    done = subprocess.run(
        [*java_command(classes, name), *arguments],
        input=given, capture_output=True, text=True, check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _classpath() -> str:
    return ":".join(str(jar) for jar in kafka_jars(Settings().cache.resolve() / "kafka", print))


def _compiler() -> Path:
    kept = Settings().cache.resolve() / f"ecj-{COMPILER}.jar"
    if not kept.exists():
        _download(kept)
    found = hashlib.sha256(kept.read_bytes()).hexdigest()
    assert found == COMPILER_SHA256, f"{kept}: expected SHA-256 {COMPILER_SHA256}, found {found}; delete it"
    return kept


def _download(kept: Path) -> None:
    from jgo.env import EnvironmentBuilder  # noqa: PLC0415 - slow to import, and needed only once
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    partial = kept.with_suffix(".partial")
    context = MavenContext(resolver=PythonResolver(), repo_cache=partial / "repository")
    with system_certificates():
        builder = EnvironmentBuilder(context=context, cache_dir=partial / "cache")
        environment = builder.from_endpoint(f"org.eclipse.jdt:ecj:{COMPILER}")
    [jar] = environment.path.rglob("*.jar")
    shutil.move(jar.resolve(), kept)
    shutil.rmtree(partial)
