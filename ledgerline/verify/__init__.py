"""The checker: proves the invariants of docs/design.md §13 from topics and Postgres only.

It shares no code with what it checks: a reading rule of its own, a reference for what each request prescribes, and a
recount of balances, limits and remembered ids. Nothing here imports ``engine`` or ``streams.journal``.
"""

from ledgerline.verify.checker import verify
from ledgerline.verify.render import render, show
from ledgerline.verify.report import Failure, Invariant, Line, Place, Progress, Report
from ledgerline.verify.run import run

__all__ = ["Failure", "Invariant", "Line", "Place", "Progress", "Report", "render", "run", "show", "verify"]
