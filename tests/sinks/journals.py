"""Journals made by hand, for the tests of sinks: what a worker would have written, without one."""

from __future__ import annotations

import orjson

from schemas.events import (
    FORMAT,
    AccountTerms,
    Answer,
    ConfigPickup,
    Event,
    Genesis,
    Leg,
    Skip,
    Span,
    encode_events,
    encode_genesis,
)
from schemas.outcomes import Outcome, Status, encode_outcome, transaction_id
from schemas.requests import NormalSide
from schemas.times import format_time
from streams.journal.framing import (
    BlockBody,
    BlockHeaders,
    GenesisHeaders,
    Headers,
    LeaseHeaders,
    encode_block,
    encode_headers,
    first_chain,
    next_chain,
)

LEDGER = "00000000-0000-4000-8000-000000000001"
AT = 1_700_000_000_000

Message = tuple[Headers, bytes]


def genesis_of(partition: int, partitions: int = 4, ledger_id: str = LEDGER) -> Genesis:
    return Genesis(
        ledger_id=ledger_id,
        partition=partition,
        partitions=partitions,
        format=FORMAT,
        at=AT,
        retry_window_s=86_400,
        ring_horizon_s=86_400,
        inputs={"requests": 0, "transfers": 0, "config": 0},
    )


class Journal:
    """The journal of one partition. Methods named after events collect them; ``block`` makes them a record."""

    def __init__(self, partition: int = 3, ledger_id: str = LEDGER) -> None:
        self.partition = partition
        self.genesis = genesis_of(partition, ledger_id=ledger_id)
        self.value = encode_genesis(self.genesis)
        self.chain = first_chain(self.value)
        self.epoch, self.token = 0, bytes(16)
        self.seq = 0  # of the last event, collected ones included
        self.at = AT
        self.offset = 0  # of the next input record
        self.explanation = b'{"checks": ["funds", "limits"], "score":{"parts":{}}}'
        self._events: list[Event] = []
        self._raw = bytearray()

    # ---- records

    def start(self) -> Message:
        return encode_headers(GenesisHeaders(format=FORMAT)), self.value

    def lease(self, letter: str = "a") -> Message:
        """A winning lease; the blocks that follow are its holder's."""
        self.epoch, self.token = self.epoch + 1, letter.encode() * 16
        return self.lost_lease(self.epoch, letter)

    def lost_lease(self, epoch: int, letter: str) -> Message:
        """A lease that wins only if its epoch is above the one in force."""
        return encode_headers(LeaseHeaders(format=FORMAT, epoch=epoch, token=letter.encode() * 16)), b"worker"

    def block(self) -> Message:
        """The events collected since the last one, as one block."""
        events, raw = self._events, bytes(self._raw)
        self._events, self._raw = [], bytearray()
        value = encode_block(BlockBody(encode_events(events), raw), len(events))
        seq = self.seq - len(events) + 1
        self.chain = next_chain(self.chain, FORMAT, seq, len(events), value)
        headers = BlockHeaders(
            format=FORMAT,
            epoch=self.epoch,
            token=self.token,
            seq=seq,
            count=len(events),
            chain=self.chain,
            published_through=0,
        )
        return encode_headers(headers), value

    def stale_block(self, epoch: int, letter: str) -> Message:
        """A late block of an earlier lease: readers skip it, whatever it holds."""
        value = encode_block(BlockBody(b"[]", b""), 1)
        headers = BlockHeaders(
            format=FORMAT, epoch=epoch, token=letter.encode() * 16, seq=1, count=1, chain=bytes(32), published_through=0
        )
        return encode_headers(headers), value

    # ---- events

    def open(self, account: str, currency: str = "EUR", side: NormalSide = "credit", floor: int = 0) -> None:
        self.terms(account, "open_account", currency=currency, side=side, floor=floor)

    def terms(
        self,
        account: str,
        type: str = "update_account",  # noqa: A002  # the field's name
        *,
        currency: str = "EUR",
        side: NormalSide = "credit",
        floor: int = 0,
        ceiling: int | None = None,
        frozen: bool = False,
    ) -> None:
        terms = AccountTerms(
            account_id=account,
            currency=currency,
            normal_side=side,
            status="frozen" if frozen else "open",
            tier="standard",
            floor_minor=floor,
            ceiling_minor=ceiling,
            attributes={"note": "ä\n", "vip": True, "age": 7},
        )
        self._answer(account, type, account_terms=terms)

    def deposit(self, account: str, amount: int, currency: str = "EUR") -> None:
        legs: tuple[Leg, ...] = (
            (f"sys:external:sepa:{currency}", "debit", amount, currency),
            (account, "credit", amount, currency),
        )
        self._answer(account, "deposit", legs=legs, amount=amount)

    def transfer(self, payer: str, payee: str, amount: int, *fees: int, currency: str = "EUR") -> None:
        amounts = (amount, *fees)
        debits: list[Leg] = [(payer, "debit", a, currency) for a in amounts]
        receivers = [payee, *[f"sys:fees:{currency}"] * len(fees)]
        credits_: list[Leg] = [(r, "credit", a, currency) for r, a in zip(receivers, amounts, strict=True)]
        self._answer(payer, "transfer", legs=(*debits, *credits_), amount=amount)

    def legs(self, *legs: Leg) -> None:
        """An entry of any legs, balanced or not."""
        self._answer(legs[0][0], "transfer", legs=legs, amount=1)

    def declined(self, account: str, reason: str = "insufficient_funds") -> None:
        self._answer(account, "transfer", status="declined", reason=reason, amount=5)

    def unreadable(self, explanation: bytes = b'{"found":"nothing"}') -> None:
        """Of a record in which not even the ids could be read; it was too large to be kept, too."""
        self._answer(None, None, status="rejected", reason="malformed", binding=False, explanation=explanation)

    def replay(self, account: str, original: int) -> None:
        self._answer(account, "transfer", original=original, amount=5)

    def skip(self) -> None:
        self._collect(
            Skip(at=self._tick(), offset=self._next(), sha256="ab" * 32, record=self._put(b"raw"), reason="unsupported")
        )

    def config(self, *, refused: bool = False) -> None:
        self._collect(
            ConfigPickup(
                at=self.at,
                cause_topic="requests",
                cause_offset=self.offset,
                offset=7,
                sha256="cd" * 32,
                version=None if refused else "default-1",
                verdict="refused" if refused else "active",
                reason="malformed: tiers: expected a value" if refused else None,
            )
        )

    def _answer(
        self,
        account: str | None,
        kind: str | None,
        *,
        legs: tuple[Leg, ...] = (),
        account_terms: AccountTerms | None = None,
        status: Status = "accepted",
        reason: str | None = None,
        binding: bool = True,
        original: int | None = None,
        amount: int | None = None,
        explanation: bytes | None = None,
    ) -> None:
        at, seq = self._tick(), self.seq + 1
        request_id = None if account is None else f"r-{original or seq}"
        outcome = Outcome(
            request_id=request_id,
            account_id=account,
            type=kind,
            status=status,
            reason=reason,
            detail="a sentence",
            final=True,
            binding=binding,
            replayed=original is not None,
            transaction=transaction_id(self.partition, original or seq),
            partition=self.partition,
            seq=seq,
            at=format_time(at),
            amount_minor=amount,
            currency="EUR",
            balance_minor=None,
            available_minor=None,
            limits=(),
            score=None,
            rules=(),
            ruleset="default-1",
        )
        self._collect(
            Answer(
                at=at,
                offset=self._next(),
                sha256="ef" * 32,
                record=self._put(b"the record") if account else (None, 70_000),
                request_id=request_id,
                account_id=account,
                type=kind,
                requested_at=at if account else None,
                fingerprint="12" * 16 if account else None,
                status=status,
                reason=reason,
                binding=binding,
                replayed=original is not None,
                original=original,
                legs=legs,
                account=account_terms,
                ruleset="default-1",
                outcome=self._put(encode_outcome(outcome)),
                explanation=self._put(explanation or self.explanation),
            )
        )

    def _collect(self, event: Event) -> None:
        self._events.append(event)
        self.seq += 1

    def _put(self, data: bytes) -> Span:
        self._raw += data
        return len(self._raw) - len(data), len(data)

    def _next(self) -> int:
        self.offset += 1
        return self.offset - 1

    def _tick(self) -> int:
        self.at += 3
        return self.at


def payments(journal: Journal, blocks: int, per_block: int, accounts: int = 20) -> list[Message]:
    """A lease and *blocks* blocks: the first opens and funds the accounts, the others are transfers between them."""
    names = [f"acc-{journal.partition}-{n}" for n in range(accounts)]
    messages = [journal.lease()]
    journal.config()
    for name in names:
        journal.open(name)
        journal.deposit(name, 10**9)
    messages.append(journal.block())
    for b in range(blocks):
        for n in range(per_block):
            payer, payee = names[(b + n) % accounts], names[(b + 3 * n + 1) % accounts]
            if payer == payee:
                journal.declined(payer, "same_account")
            else:
                journal.transfer(payer, payee, 100 + n, *([5] if n % 4 == 0 else []))
        messages.append(journal.block())
    return messages


def wrong(message: Message) -> Message:
    """*message* with its last byte changed: its chain is no longer right."""
    headers, value = message
    return headers, value[:-1] + bytes([value[-1] ^ 1])


def plain(value: object) -> object:
    """JSON text as the value it says."""
    return orjson.loads(value) if isinstance(value, str | bytes) else value
