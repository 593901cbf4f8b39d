"""The account ids of ``examples/partition_vectors.json``, and how the file is made: by Kafka's own Java client.

python -m tests.examples.vectors    writes the file anew.
"""

import json
import string
import tempfile
from pathlib import Path

from tests.examples.java import EXAMPLES, compile_examples, run_example

FILE = EXAMPLES / "partition_vectors.json"
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "._:~-"
PARTITIONS = (1, 2, 3, 4, 7, 8, 10, 12, 16, 50, 64, 100, 128)
"""Powers of two and others: some wrong partitioners differ only on the others."""
NAMED = (
    "alice", "bob", "carol", "a", "0", "-", "~", ".", ":", "_", "sys", "SYS:x", "demo-1f0c9a2e", "user.42",
    "DE89370400440532013000", "9f1c2b7e-6a55-4b0e-9a36-0d8f3f6f7b21", "tenant-7:wallet~EUR", "merchant_17.settlement",
    "00000000", "99999999999999999999",
)  # fmt: skip


def account_ids() -> list[str]:
    """Well-known kinds of ids, then one id of every length from 1 to 64, together with every character allowed."""
    rows = [
        "".join(ALPHABET[(17 * length + 29 * place) % len(ALPHABET)] for place in range(length))
        for length in range(1, 65)
    ]
    return [*NAMED, *(row for row in rows if row not in NAMED)]


def by_java(classes: Path) -> list[dict[str, object]]:
    """The vectors as Kafka's own client computes them; the examples are compiled in *classes*."""
    ids = account_ids()
    printed = run_example(classes, "Partitions", [str(count) for count in PARTITIONS], "\n".join(ids) + "\n")
    vectors: list[dict[str, object]] = []
    for account_id, line in zip(ids, printed.splitlines(), strict=True):
        told, hashed, *found = line.split(" ")
        assert told == account_id
        vectors.append({"account_id": told, "murmur2": int(hashed), "partition": [int(one) for one in found]})
    return vectors


def text(vectors: list[dict[str, object]]) -> str:
    """The file: one vector a line."""
    rows = ",\n".join("  " + json.dumps(vector) for vector in vectors)
    about = "murmur2 is a signed 32-bit integer; partition[i] = (murmur2 & 0x7fffffff) % partitions[i]"
    return f'{{"about": {json.dumps(about)},\n "partitions": {json.dumps(PARTITIONS)},\n "vectors": [\n{rows}\n]}}\n'


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        compile_examples(Path(folder))
        FILE.write_text(text(by_java(Path(folder))), "utf-8")
