"""The bundled sample of the simulated stream is what its README says, and can be made again."""

import csv
import gzip
import hashlib
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "data"
README = (FOLDER / "README.md").read_text("utf-8")


def text() -> bytes:
    return gzip.decompress((FOLDER / "card_payments.csv.gz").read_bytes())


def test_the_readme_tells_the_truth_about_the_sample() -> None:
    rows = list(csv.DictReader(text().decode("ascii").splitlines()))
    amounts = [int(row["amount_minor"]) for row in rows]
    assert f"{len(rows):,} **simulated**" in README
    assert f"{len({row['account'] for row in rows})} accounts at {len({row['merchant'] for row in rows})} " in README
    assert f"{sum(row['fraud'] == '1' for row in rows):,} of {len(rows):,}" in README
    assert f"from {min(amounts):,} to {max(amounts):,}" in README
    assert f"{sum(amounts):,}" in README
    assert hashlib.sha256(text()).hexdigest() in README
    assert len(rows) >= 60_000


def test_the_sample_is_in_time_order() -> None:
    times = [int(row["ts_s"]) for row in csv.DictReader(text().decode("ascii").splitlines())]
    assert times == sorted(times)


def test_dollars_become_cents_exactly(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_sample", FOLDER / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert [script.cents(amount) for amount in ("63.54", "54.0", "0.29", "1157.07", "90071992547409.93")] == [
        6354,
        5400,
        29,
        115707,
        9007199254740993,
    ]
    for wrong in ("1.005", "1", "-1.00", "0.00", "1e3", ".5", "٣.00", "1.0\n"):
        with pytest.raises(ValueError, match="positive amount"):
            script.cents(wrong)
    source = tmp_path / "stream.csv.gz"
    rows = "ts_s,account,merchant,category,amount,fraud,lat\n0,1,2,3,4.5,0,9\n1,1,2,3,0.29,1,9\n"
    source.write_bytes(gzip.compress(rows.encode()))
    first, second = tmp_path / "first", tmp_path / "second"
    assert script.make(source, first) == script.make(source, second) == 2
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()).decode().splitlines()[1:] == ["0,1,2,3,450,0", "1,1,2,3,29,1"]
