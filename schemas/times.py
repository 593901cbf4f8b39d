"""Instants as integer milliseconds since 1970-01-01T00:00:00Z, and their one text form."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

TIME_PATTERN: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z$"
_TIME = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{3}))?Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def parse_time(text: object) -> int:
    """Return the milliseconds of *text*, which must be exactly ``YYYY-MM-DDTHH:MM:SS[.mmm]Z``.

    Raises ``ValueError`` for anything else: offsets, leap seconds, other precisions, years before 1970.
    Parsed here because pydantic and msgspec accept many other forms.
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("expected a time as YYYY-MM-DDTHH:MM:SS[.mmm]Z")
    year, month, day, hour, minute, second, fraction = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"expected a time that exists: {error}") from None
    milliseconds = (moment - _EPOCH) // _MILLISECOND + int(fraction or 0)
    if milliseconds < 0:
        raise ValueError("expected a time from 1970 on")
    return milliseconds


def format_time(milliseconds: int) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.mmmZ`` of *milliseconds*; the inverse of :func:`parse_time`."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z" if moment.year >= 1000 else _refuse(milliseconds)


def _refuse(milliseconds: int) -> str:
    raise ValueError(f"no four-digit year for {milliseconds} ms")
