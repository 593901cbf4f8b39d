"""The client for upstream services: send a request, get its outcome.

    import asyncio
    from ledgerline.client import Client

    async def main() -> None:
        async with Client(kafka="localhost:9092") as client:
            outcome = await client.send(
                {"type": "deposit", "account_id": "alice", "amount_minor": 5000, "currency": "EUR", "rail": "sepa"},
                timeout=10,
            )
            print(outcome.status, outcome.reason, outcome.balance_minor, outcome.transaction)

    asyncio.run(main())

**Requests.** A dict as docs/requests.md describes it, or a model of ``schemas.requests``. What is absent is filled in:
``v``, ``request_id`` (a UUID) and ``requested_at`` (now). The engine's own decoder checks it before it is sent;
``Malformed`` names the field, what was expected and what was found.

**Outcomes.** ``send`` returns a typed ``Outcome``; a decline or rejection is an outcome, not an exception. Look at
``outcome.binding``: only a binding outcome is remembered by the ledger. After one that is not binding
(``idempotency_conflict``, ``too_old``, …) the id may already have had its effect: send only the same request again, or
look the outcome up; use a new id only after a binding refusal. With ``final=True`` the outcome that ends the request is
waited for.

**Lost answers.** The same bytes under the same id are sent again, with back-off, until *timeout*; the ledger decides an
id once and answers repetitions with the first outcome (``replayed``). After *timeout* seconds ``NoAnswer`` tells what
is known. The request may still be decided: to go on, send ``error.request``, which keeps ``request_id`` and
``requested_at``. A service that must be able to ask again after its own crash chooses and stores both itself.

**Order.** Requests of one account take effect in the order in which they were sent on one client, also without waiting
for the answers in between. ``send_many`` pipelines a whole stream of requests:

    async for result in client.send_many(requests, timeout=30):
        match result:
            case Outcome(): ...
            case Malformed() | NoAnswer(): ...

**Where answers are read.** From the partitions of ``outcomes`` that the accounts in use belong to, from the moment of
the first request on. An answer counts only if it carries the correlation id that this client gave the request and comes
from the partition of the request's account. ``Client(reply_to="my-replies")`` reads a reply topic of your own instead:
less traffic where others send much. That topic must exist; an answer that is lost on it comes back by sending again.

**Failures.** After any error of a connection a new producer is made and unacknowledged requests are sent again, so a
broker's restart only takes time. Starting raises ``UnreachableError`` or ``ConfigurationError``. One client serves one
event loop and thousands of requests at once (``MAX_UNDER_WAY``); further calls wait, within their timeout.
"""

from ledgerline.client.answers import Counters
from ledgerline.client.client import MAX_UNDER_WAY, Client, Result
from ledgerline.client.preparing import Prepared, prepare
from ledgerline.client.under_way import ClientClosed, NoAnswer
from ledgerline.errors import ConfigurationError, UnreachableError
from schemas.codec import Malformed
from schemas.outcomes import Outcome

__all__ = [
    "MAX_UNDER_WAY",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "Counters",
    "Malformed",
    "NoAnswer",
    "Outcome",
    "Prepared",
    "Result",
    "UnreachableError",
    "prepare",
]
