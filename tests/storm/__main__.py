"""``python -m tests.storm``: exit code 0 if everything held, 1 if not, 2 if too few faults hit work in flight."""

import argparse
import asyncio
import logging
import sys

from rich.console import Console

from tests.storm.course import Options, run

SECONDS = 120.0


def main() -> int:
    """Read the arguments, let the storm rage."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.storm", description="Kill a ledger while it works; prove it."
    )
    parser.add_argument("--seed", type=int, default=1, help="decides the faults and the requests (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of traffic (default %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the data and the logs")
    given = parser.parse_args()
    for name in ("aiokafka", "ledgerline.client"):  # clients that lose their broker say so; here that is the plan
        logging.getLogger(name).setLevel(logging.CRITICAL)
    console = Console(highlight=False, soft_wrap=True)
    result = asyncio.run(run(Options(seed=given.seed, seconds=given.seconds, keep=given.keep), console))
    return 1 if result.wrong else 2 if result.missed else 0


if __name__ == "__main__":
    sys.exit(main())
