"""Where the local stack keeps its files."""

from dataclasses import dataclass
from pathlib import Path

from ledgerline.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The folders of one local stack below ``root``, and the cache that all stacks share.

    ``root`` is a folder of its own below the home, because the PostgreSQL package, run as root, opens the modes of all
    folders above its data, and because ``down --delete`` removes it.
    """

    root: Path
    cache: Path

    @property
    def state(self) -> Path:
        """Names the running servers; written when both are ready, removed by ``down``."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held while servers are started or stopped. It lies beside ``root``, so that it survives ``down --delete``."""
        return self.root.parent / "stack.lock"

    @property
    def kafka(self) -> Path:
        """Configuration, log and data of the broker."""
        return self.root / "kafka"

    @property
    def postgres(self) -> Path:
        """The PostgreSQL data folder, with the server's log and (if its path is short enough) its socket."""
        return self.root / "postgres" / "data"

    @property
    def jars(self) -> Path:
        """The checked jars of the broker, outside of ``root``: downloaded once."""
        return self.cache / "kafka"


def layout(home: Path, cache: Path) -> Layout:
    """Return the layout below *home*, resolved, because server processes are recognised by these paths.

    Raises ConfigurationError for a path that the servers' own start scripts cannot carry.
    """
    for name, path in (("LEDGERLINE_HOME", home), ("LEDGERLINE_CACHE", cache)):
        awkward = sorted({character for character in str(path.resolve()) if character in " \t\n\"'\\$`:,;*?"})
        if awkward:
            message = (
                f"{name}: expected a path without spaces, quotes or any of $ : , ; * ?, got {str(path.resolve())!r};"
                f" set {name} to a plain path"
            )
            raise ConfigurationError(message)
    return Layout(root=home.resolve() / "stack", cache=cache.resolve())
