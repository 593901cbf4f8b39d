"""Make or update ``.venv``: standard library only, plain progress lines, nothing done twice.

Run by every target of the Makefile as ``python3 ops/bootstrap.py``. It installs the pinned requirements with their
hashes, then the project itself, editable, without a further download. A stamp in ``.venv`` holds the hash of what was
installed, so that an up-to-date ``.venv`` costs a few milliseconds. Every failure says what to do and exits with 3
(this machine lacks something) or 5 (the package index cannot be reached).

It is written so that an old Python can still read it and be refused with a message.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
DISK_NEEDED_BYTES = 2 * 1000**3
EXIT_CONFIGURATION = 3
EXIT_UNREACHABLE = 5

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements.txt"
STAMP = VENV / ".ledgerline-installed"

NETWORK_SIGNS = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "NameResolutionError",
    "ProxyError",
    "SSLError",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "Connection refused",
)


class Failure(Exception):
    """Something this machine lacks: what happened, what to do, and the exit code."""

    def __init__(self, what: str, todo: str, code: int = EXIT_CONFIGURATION) -> None:
        super().__init__(what)
        self.what = what
        self.todo = todo
        self.code = code


def say(line: str) -> None:
    """Print one progress line."""
    print("ledgerline: " + line, flush=True)


def check_python() -> None:
    """Refuse an old Python, naming a newer one if the machine has it."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    found = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
    todo = "install Python 3.11 or newer, then run `make PYTHON=python3.11 venv` (any target takes PYTHON=)"
    if found:
        todo = "this machine also has %s: run `make PYTHON=%s venv` (any target takes PYTHON=)" % (found[0], found[0])
    raise Failure(
        "Python 3.11 or newer is needed, %s is %d.%d" % (sys.executable, sys.version_info[0], sys.version_info[1]), todo
    )


def check_disk() -> None:
    """Refuse to start what would run out of space half-way."""
    free = shutil.disk_usage(str(ROOT)).free
    if free < DISK_NEEDED_BYTES:
        raise Failure(
            "2.0 GB of free disk are needed below %s, there are %.1f GB" % (ROOT, free / 1000.0**3),
            "free some space, or clone the project to a larger disk",
        )


def check_venv_module() -> None:
    """Some systems ship Python without the parts that make a virtual environment."""
    try:
        import ensurepip  # noqa: F401, PLC0415 - only its presence matters
        import venv  # noqa: F401, PLC0415
    except ImportError as error:
        raise Failure(
            "this Python cannot make a virtual environment (%s)" % error,
            "install the venv module, on Debian and Ubuntu `apt install python3-venv`, or use another Python:"
            " `make PYTHON=/path/to/python3 venv`",
        ) from error


def wanted_stamp() -> str:
    """Hash of everything that decides what is in ``.venv``; a moved checkout needs a new one."""
    digest = hashlib.sha256()
    for part in (REQUIREMENTS.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def is_current() -> bool:
    """True if ``.venv`` is complete; its interpreter is checked because a system upgrade can remove it."""
    try:
        stamp = STAMP.read_text()
    except OSError:
        return False
    return stamp == wanted_stamp() and venv_python().exists()


def venv_python() -> Path:
    """The interpreter in ``.venv``, whether it exists or not."""
    return VENV / "bin" / "python"


def clean_environment() -> "dict[str, str]":
    """The caller's environment, pip's index and proxy included, without what would install elsewhere."""
    dropped = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")
    return environment


def create_venv() -> None:
    """Make an empty ``.venv``; one that does not run, or runs an old Python, is replaced."""
    if VENV.exists():
        probe = "import pip, sys; sys.exit(sys.version_info[:2] != %r)" % (sys.version_info[:2],)
        try:
            works = subprocess.call([str(venv_python()), "-c", probe], stderr=subprocess.DEVNULL) == 0
        except OSError:
            works = False
        if works:
            return
        say("replacing a .venv that does not run")
        shutil.rmtree(str(VENV))
    say("creating .venv with Python %d.%d.%d" % sys.version_info[:3])
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if made.returncode != 0:
        raise explain_failure(made.stdout.decode("utf-8", "replace").splitlines())


def install() -> None:
    """Install the pinned requirements, then the project itself on top of them."""
    total = sum(1 for line in REQUIREMENTS.read_text().splitlines() if line[:1].isalnum())
    say("installing %d pinned packages (about 250 MB to download the first time)" % total)
    run_pip(
        ["install", "--require-hashes", "--only-binary", ":all:", "--progress-bar", "off", "-r", str(REQUIREMENTS)],
        total,
    )
    say("installing the ledgerline command")
    run_pip(["install", "--no-deps", "--no-build-isolation", "--quiet", "--editable", str(ROOT)], 0)


def run_pip(arguments: "list[str]", total: int) -> None:
    """Run pip, showing one line for each package it takes up."""
    command = [str(venv_python()), "-m", "pip"] + arguments  # noqa: RUF005 - readable by an old Python
    process = subprocess.Popen(
        command, env=clean_environment(), cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    lines = []
    done = 0
    for raw in process.stdout:
        line = raw.decode("utf-8", "replace").rstrip()
        lines.append(line)
        if line.startswith("Collecting "):
            done += 1
            say("  %d/%d %s" % (done, total, line.split()[1]))
        elif line.startswith("Installing collected packages"):
            say("  unpacking them into .venv")
    if process.wait() != 0:
        raise explain_failure(lines)


def explain_failure(lines: "list[str]") -> Failure:
    """Turn the output of a failed step into what happened and what to do."""
    text = "\n".join(lines)
    telling = [
        line for line in lines if line and not line.startswith(("WARNING: Retrying", "Ignoring ", "Collecting "))
    ]
    tail = "\n    ".join(telling[-8:])
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return Failure("the disk is full:\n    " + tail, "free 2 GB and run the same command again")
    if any(sign in text for sign in NETWORK_SIGNS):
        return Failure(
            "the package index cannot be reached:\n    " + tail,
            "check the network; behind a proxy set HTTPS_PROXY, with an index of your own set PIP_INDEX_URL"
            " (and PIP_CERT for its certificate); then run the same command again",
            EXIT_UNREACHABLE,
        )
    if "DO NOT MATCH THE HASHES" in text:
        return Failure(
            "a downloaded package is not the pinned one:\n    " + tail,
            "run `.venv/bin/python -m pip cache purge` and try again; if it happens again, the index serves other"
            " files: do not use it",
        )
    if "No matching distribution" in text or "Could not find a version" in text:
        return Failure(
            "a pinned package does not exist for this machine or Python:\n    " + tail,
            "use Python 3.11 to 3.13 on Linux (x86-64, arm64) or macOS: `make PYTHON=python3.12 venv`;"
            " with an index of your own check that it is complete",
        )
    return Failure("a step failed:\n    " + tail, "mend what the lines above name and run the same command again")


def prepare() -> None:
    """Bring ``.venv`` up to date; the stamp goes first and comes last, so a killed run is finished by the next."""
    check_python()
    if is_current():
        say(".venv is up to date")
        return
    check_disk()
    check_venv_module()
    if STAMP.exists():
        STAMP.unlink()
    create_venv()
    install()
    STAMP.write_text(wanted_stamp())
    say("ready: .venv/bin/ledgerline")


def main() -> int:
    """Prepare under a lock, because `make -j` and two terminals may ask at the same time."""
    try:
        check_python()
        import fcntl  # noqa: PLC0415 - absent on Windows, which is refused here with a message

        with (ROOT / ".venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            prepare()
    except ImportError:
        failure = Failure("this system has no fcntl", "use Linux, macOS or the Windows Subsystem for Linux")
    except OSError as error:
        failure = Failure("the file system refused: %s" % error, "make %s writable and not full, then try again" % ROOT)
    except Failure as error:
        failure = error
    except KeyboardInterrupt:
        say("stopped; run the same command again to go on")
        return 130
    else:
        return 0
    sys.stderr.write("ledgerline: error: %s\nledgerline: what to do: %s\n" % (failure.what, failure.todo))
    return failure.code


if __name__ == "__main__":
    sys.exit(main())
