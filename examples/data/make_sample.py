"""Make card_payments.csv.gz: the first payments of the labelled stream, with amounts in cents.

    python examples/data/make_sample.py STREAM.csv.gz

The result depends on the stream only: no clock, no file name, no randomness in it.
"""

import csv
import gzip
import io
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

TARGET = Path(__file__).with_name("card_payments.csv.gz")
PAYMENTS = 75_000
COLUMNS = ("ts_s", "account", "merchant", "category", "amount_minor", "fraud")
_AMOUNT = re.compile(r"([0-9]+)\.([0-9]{1,2})")


def cents(amount: str) -> int:
    """Return the cents of *amount*, exactly: digits only, never through a float. The stream drops a last zero: 54.0."""
    match = _AMOUNT.fullmatch(amount)
    if match is None or (minor := int(match[1]) * 100 + int(match[2].ljust(2, "0"))) == 0:
        raise ValueError(f"expected a positive amount such as 63.54 or 54.0, found {amount!r}")
    return minor


def rows(stream: Iterator[dict[str, str]]) -> Iterator[tuple[int, ...]]:
    """Yield the sample's rows; ``ValueError`` if the stream is not in time order."""
    before = 0
    for row in stream:
        ts_s = int(row["ts_s"])
        if ts_s < before:
            raise ValueError(f"expected payments in time order, found {ts_s} s behind {before} s")
        before = ts_s
        yield (
            ts_s,
            int(row["account"]),
            int(row["merchant"]),
            int(row["category"]),
            cents(row["amount"]),
            int(row["fraud"]),
        )


def make(source: Path, target: Path) -> int:
    """Write the first 75,000 payments of *source* to *target*; return how many there were."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    with gzip.open(source, "rt", newline="") as stream:
        for row in islice(rows(csv.DictReader(stream)), PAYMENTS):
            writer.writerow(row)
            count += 1
    target.write_bytes(gzip.compress(text.getvalue().encode("ascii"), compresslevel=9, mtime=0))
    return count


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_sample.py STREAM.csv.gz")
    print(f"{make(Path(sys.argv[1]), TARGET)} payments in {TARGET}")
