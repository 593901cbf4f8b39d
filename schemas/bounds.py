"""Every limit of the formats, in one place. Sources: docs/design.md §3, §5, §15."""

from typing import Final

MAX_AMOUNT_MINOR: Final = 10**15
"""Largest amount of one request, in minor units; the smallest is 1."""

MAX_COUNTER: Final = 2**62
"""Counters (sums of minor units) stay strictly below this; a request that would reach it is refused: ``overflow``."""

MAX_REQUEST_BYTES: Final = 64 * 1024
"""Largest request, in bytes: its value, and its record as framed. A block holds a record up to here byte for byte."""

MAX_DEPTH: Final = 8
"""Deepest nesting of a JSON value; the outermost object is depth 1."""

MAX_BLOCK_EVENTS: Final = 2_000
MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024

SYSTEM_PREFIX: Final = "sys:"
ACCOUNT_ID_PATTERN: Final = (
    r"^(?:(?:[A-Za-rt-z0-9._:~-]|s[A-Za-xz0-9._:~-]|sy[A-Za-rt-z0-9._:~-]|sys[A-Za-z0-9._~-])[A-Za-z0-9._:~-]*|sy?s?)$"
)
"""Letters, digits and ``. _ : ~ -``, not starting with ``sys:``. Spelt out, as Rust's expressions do not look ahead."""
MAX_ACCOUNT_ID: Final = 64
WORD_PATTERN: Final = r"^[!-~]{1,64}$"
"""Request ids, merchants, devices, categories, channels, tiers: 1 to 64 printable ASCII characters without space."""
REQUEST_ID_PATTERN: Final = WORD_PATTERN
RAIL_PATTERN: Final = r"^[a-z0-9_-]{1,32}$"
COUNTRY_PATTERN: Final = r"^[A-Z]{2}$"
VERSION_PATTERN: Final = r"^[A-Za-z0-9._-]{1,32}$"
PATTERNS_IN_WORDS: Final = {
    ACCOUNT_ID_PATTERN: "an account id: 1 to 64 characters of A-Z a-z 0-9 . _ : ~ -, not starting with sys:",
    WORD_PATTERN: "1 to 64 printable ASCII characters without space",
    RAIL_PATTERN: "1 to 32 characters of a-z 0-9 _ -",
    COUNTRY_PATTERN: "a country code of two capital letters",
    VERSION_PATTERN: "1 to 32 characters of A-Z a-z 0-9 . _ -",
}
"""For the messages of :class:`schemas.codec.Malformed`."""

MAX_METADATA_KEYS: Final = 16
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 256
MAX_FEES: Final = 8

CLOCK_SKEW_MS: Final = 60_000
"""A request whose ``requested_at`` lies further ahead of ``at`` is ``from_the_future`` (docs/design.md §6)."""

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
