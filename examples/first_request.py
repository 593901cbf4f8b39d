"""Open an account, put money in, take some out: with the client that comes with Ledgerline.

python examples/first_request.py

The address is taken from LEDGERLINE_KAFKA and LEDGERLINE_PREFIX; without them from the running local stack.
"""

import asyncio
import uuid

from ledgerline.client import Client, NoAnswer
from ledgerline.settings import load_settings, resolve
from schemas.currencies import format_amount


async def main() -> None:
    settings = load_settings()
    account = f"demo-{uuid.uuid4().hex[:8]}"
    requests: list[dict[str, str | int]] = [
        {"type": "open_account", "account_id": account, "currency": "EUR"},
        {"type": "deposit", "account_id": account, "amount_minor": 10_000, "currency": "EUR", "rail": "sepa"},
        {"type": "withdraw", "account_id": account, "amount_minor": 1_250, "currency": "EUR", "rail": "sepa"},
        {"type": "withdraw", "account_id": account, "amount_minor": 99_900, "currency": "EUR", "rail": "sepa"},
    ]
    async with Client(kafka=resolve(settings).kafka, prefix=settings.prefix) as client:
        for request in requests:
            try:
                outcome = await client.send(request, timeout=30)
            except NoAnswer as error:
                # It may have been decided, or may still be. Send the same again: a new id would be a new payment.
                outcome = await client.send(error.request, timeout=300)
            has = format_amount(outcome.balance_minor or 0, "EUR")
            print(f"{outcome.transaction:>8}  {request['type']:<12} {outcome.status:<9} {account} has {has} EUR")
            if outcome.reason is not None:
                print(f"          {outcome.reason}: {outcome.detail}")


asyncio.run(main())
