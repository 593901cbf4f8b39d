"""I10: fold every journal twice in processes of their own, under other hash seeds and time zones, and compare."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ledgerline.verify.report import Invariant, OnProgress, Place, Progress, Report
from ledgerline.verify.walk import Walk

SURROUNDINGS: Final = (
    {"PYTHONHASHSEED": "0", "TZ": "UTC"},
    {"PYTHONHASHSEED": "20261", "TZ": "<+1345>-13:45"},
)
"""What must not matter: order in sets and dicts, and the local time zone."""

FOLD: Final = """
import asyncio, json, sys
from streams.fold import fold_journal

async def main(kafka, prefix, wanted):
    for partition, seq in wanted:
        try:
            found = await fold_journal(kafka, prefix, partition, upto_seq=seq)
            line = {"partition": partition, "seq": found.seq, "state_hash": found.state_hash}
        except Exception as error:  # whatever it is: the partition cannot be rebuilt, the others may
            line = {"partition": partition, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
"""
"""The program of such a process. It runs the engine; the checker itself never imports it."""

Found = dict[int, dict[str, Any]]


async def check_rebuild(
    report: Report,
    kafka: str,
    prefix: str,
    walks: Mapping[int, Walk],
    progress: OnProgress,
    *,
    program: str = FOLD,
) -> None:
    """Run *program* once in each surroundings: fold each journal, from 0, to the seq that its walk reached."""
    wanted = [[partition, walk.rule.seq] for partition, walk in walks.items() if walk.genesis is not None]
    progress(Progress("rebuild", 0, len(wanted)))
    first, second = await asyncio.gather(*(_fold(program, [kafka, prefix], wanted, extra) for extra in SURROUNDINGS))
    progress(Progress("rebuild", len(wanted), len(wanted)))
    for partition, seq in wanted:
        report.check(Invariant.I10)
        place, pair = Place(partition, seq), (first.get(partition, {}), second.get(partition, {}))
        for one in pair:
            if one.get("seq") != seq:
                found = one.get("error", "a process that ended without an answer")
                report.fail(Invariant.I10, place, "rebuild", f"the state at seq {seq}", one.get("seq") or found)
        hashes = [one.get("state_hash") for one in pair]
        if hashes[0] != hashes[1]:
            report.fail(Invariant.I10, place, "state hash in other surroundings", hashes[0], hashes[1])


async def _fold(program: str, where: list[str], wanted: list[list[int]], extra: Mapping[str, str]) -> Found:
    """Return what a process in the surroundings *extra* found, by partition."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *where,
        orjson.dumps(wanted).decode(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **extra},
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    found = {line["partition"]: line for line in map(orjson.loads, out.splitlines())}
    if process.returncode:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        for partition, _ in wanted:
            found.setdefault(partition, {"error": f"exit code {process.returncode}: {last}"})
    return found
