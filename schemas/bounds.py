"""Every limit of the formats, in one place. Sources: docs/design.md §3, §5, §15."""

from typing import Final

MAX_AMOUNT_MINOR: Final = 10**15
"""Largest amount of one request, in minor units; the smallest is 1."""

MAX_COUNTER: Final = 2**62
"""Counters (sums of minor units) stay strictly below this; a request that would reach it is refused: ``overflow``."""

MAX_REQUEST_BYTES: Final = 64 * 1024
"""Largest request value in bytes; also the largest framed record that a block holds byte for byte."""

MAX_DEPTH: Final = 8
"""Deepest nesting of a JSON value; the outermost object is depth 1."""

MAX_BLOCK_EVENTS: Final = 2_000
MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024

ACCOUNT_ID_PATTERN: Final = r"^[A-Za-z0-9._:~-]{1,64}$"
SYSTEM_PREFIX: Final = "sys:"
REQUEST_ID_PATTERN: Final = r"^[!-~]{1,64}$"
WORD_PATTERN: Final = r"^[!-~]{1,64}$"
"""Merchants, devices, rails, categories, channels: 1 to 64 printable ASCII characters without space."""

MAX_METADATA_KEYS: Final = 16
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 256
MAX_FEES: Final = 8

CLOCK_SKEW_MS: Final = 60_000
"""A request whose ``requested_at`` lies further ahead of ``at`` is ``from_the_future`` (docs/design.md §6)."""

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
