"""Instants as integer milliseconds since 1970-01-01T00:00:00Z, and their one text form."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z$"
TIME_FORM: Final = "a UTC time as YYYY-MM-DDTHH:MM:SS[.mmm]Z"
_MINUTE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# A time is three look-ups: its minute (remembered), its second, its end. What is in no table is no time.
_SECONDS: Final = {f":{second:02d}": second * 1000 for second in range(60)}
_ENDS: Final = {"Z": 0} | {f".{millisecond:03d}Z": millisecond for millisecond in range(1000)}


def parse_time(text: object) -> int:
    """Return the milliseconds of *text*, which must be exactly ``YYYY-MM-DDTHH:MM:SS[.mmm]Z``.

    Raises ``ValueError`` for anything else: offsets, leap seconds, other precisions, years before 1970.
    Parsed here because pydantic and msgspec accept many other forms.
    """
    if type(text) is not str:
        raise ValueError(f"expected {TIME_FORM}")
    try:
        return _minute(text[:16]) + _SECONDS[text[16:19]] + _ENDS[text[19:]]
    except KeyError:
        raise ValueError(f"expected {TIME_FORM}") from None


@lru_cache(maxsize=4096)
def _minute(text: str) -> int:
    match = _MINUTE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {TIME_FORM}")
    year, month, day, hour, minute = map(int, match.groups())
    try:
        moment = datetime(year, month, day, hour, minute, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"expected a time that exists ({error})") from None
    if moment < _EPOCH:
        raise ValueError("expected a time from 1970 on")
    return (moment - _EPOCH) // _MILLISECOND


def format_time(milliseconds: int) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.mmmZ`` of *milliseconds* from 1970 to 9999; the inverse of :func:`parse_time`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    if not 0 <= seconds < _END_S:
        raise ValueError(f"expected a time from 1970 to 9999, found {seconds} s after 1970")
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


_END_S: Final = 253_402_300_800
"""Seconds from 1970 to the end of year 9999."""
