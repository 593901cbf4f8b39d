"""``Client``: see the package's docstring."""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Final, Self

from pydantic import ValidationError

from ledgerline.client.answers import Answers, Counters
from ledgerline.client.preparing import Prepared, prepare
from ledgerline.client.sending import Sender
from ledgerline.client.under_way import ClientClosed, NoAnswer, UnderWay
from ledgerline.errors import ConfigurationError, UnreachableError
from schemas.codec import Malformed, malformed
from schemas.outcomes import Outcome, decode_outcome
from schemas.records import header_values, partition_of
from schemas.requests import Request
from streams.kafka import Admin, KafkaFailure, Outgoing, Partition, Record

MAX_UNDER_WAY: Final = 10_000
"""Requests of one client that wait for their answer at the same time; further ones wait for their turn."""
RESEND_AFTER_S: Final = 5.0
"""An acknowledged request without an answer is sent again after this time, then after twice as long, …"""
RESEND_AT_MOST_S: Final = 60.0

Result = Outcome | Malformed | NoAnswer
"""What became of one request of ``send_many``."""

_log = logging.getLogger("ledgerline.client")


class Client:
    """Sends requests to the ledger of *prefix* and returns their outcomes. Use it as ``async with``."""

    def __init__(
        self,
        *,
        kafka: str,
        prefix: str = "ledgerline.",
        reply_to: str | None = None,
        resend_after_s: float = RESEND_AFTER_S,
    ) -> None:
        """*kafka*: bootstrap servers; *reply_to*: a topic of your own to read answers from instead of ``outcomes``."""
        self._kafka = kafka
        self._requests = f"{prefix}requests"
        self._outcomes = f"{prefix}outcomes"
        self._reply_to = reply_to
        self._resend_after_s = resend_after_s
        self._name = f"client-{secrets.token_hex(6)}"
        self._numbers = itertools.count(1)
        self._partitions = 0
        self._under_way: dict[bytes, UnderWay] = {}
        self._turns = asyncio.Semaphore(MAX_UNDER_WAY)
        self._answers = Answers(kafka, self._name, self._deliver, self._ended)
        self._sender = Sender(kafka, self._name, self._heard, self._ended)
        self.counters = Counters()

    async def __aenter__(self) -> Self:
        """Connect. Raises UnreachableError, or ConfigurationError if the topics are not those of a ledger."""
        try:
            reply_partitions = await self._look_up_topics()
            await self._sender.start()
            await self._answers.start()
            for number in range(reply_partitions):
                self._answers.use(Partition(str(self._reply_to), number))
                await self._answers.listen(Partition(str(self._reply_to), number))
        except KafkaFailure as failure:
            await self.close()
            raise UnreachableError(
                f"Kafka at {self._kafka} does not answer: {failure}; is it running, is the address right?"
            ) from failure
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect; calls that still wait raise ClientClosed."""
        self._partitions = 0
        closed = ClientClosed("the client was closed while a request waited for its answer")
        for request in self._under_way.values():
            if not request.answer.done():
                request.answer.set_exception(closed)
        await self._sender.close()
        await self._answers.close()

    async def send(self, request: Mapping[str, Any] | Request, *, timeout: float, final: bool = False) -> Outcome:
        """Send *request* and return its outcome: the first answer, with *final* the one that ends it.

        Raises: Malformed before anything is sent; NoAnswer after *timeout* seconds; ClientClosed.
        """
        if not self._partitions:
            raise ClientClosed("the client is not connected: use it as `async with Client(...) as client`")
        under_way = self._begin(prepare(request, time.time_ns() // 1_000_000), final=final)
        try:
            async with asyncio.timeout(timeout):
                async with self._turns:
                    return await self._ask(under_way)
        except TimeoutError:
            raise under_way.no_answer(self._reply_to or self._outcomes) from None
        finally:
            under_way.answer.cancel()  # nobody waits any more: a copy that is still queued is not sent

    async def send_many(
        self,
        requests: Iterable[Mapping[str, Any] | Request] | AsyncIterable[Mapping[str, Any] | Request],
        *,
        timeout: float,
        final: bool = False,
        under_way: int = 1_000,
    ) -> AsyncGenerator[Result, None]:
        """Send *requests* in order, at most *under_way* at a time, and yield what became of each, in the same order.

        *timeout* is that of each request. Refused and unanswered requests are yielded as values and end nothing.
        """
        results: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue(maxsize=under_way)

        async def feed() -> None:
            try:
                async for request in _each(requests):
                    result = asyncio.create_task(self._result(request, timeout, final=final))
                    try:
                        await results.put(result)
                    except asyncio.CancelledError:
                        result.cancel()  # nobody will look at it
                        raise
            finally:
                await results.put(None)

        feeding = asyncio.create_task(feed())
        try:
            while (result := await results.get()) is not None:
                yield await result
            await feeding
        finally:
            feeding.cancel()
            while not results.empty():
                if (unread := results.get_nowait()) is not None:
                    unread.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _result(self, request: Mapping[str, Any] | Request, timeout: float, *, final: bool) -> Result:
        try:
            return await self.send(request, timeout=timeout, final=final)
        except (Malformed, NoAnswer) as problem:
            return problem

    def _begin(self, prepared: Prepared, *, final: bool) -> UnderWay:
        """The correlation id is new for every call and the same for every copy: what carries it answers these bytes.

        The ids of the request alone would not tell: another sender may have used them for another body.
        """
        correlation = f"{self._name}-{next(self._numbers)}".encode()
        headers = [("correlation-id", correlation)]
        if self._reply_to is not None:
            headers.append(("reply-to", self._reply_to.encode()))
        key = prepared.account_id.encode()
        return UnderWay(
            prepared=prepared,
            to=Partition(self._requests, partition_of(key, self._partitions)),
            outgoing=Outgoing(key, prepared.value, headers),
            final=final,
            answer=asyncio.get_running_loop().create_future(),
        )

    async def _ask(self, request: UnderWay) -> Outcome:
        """Nothing is awaited before ``put``: requests of one account keep the order of their calls."""
        correlation = request.outgoing.headers[0][1] or b""
        answered_on = Partition(self._outcomes, request.to.number)
        self._under_way[correlation] = request
        self._answers.use(answered_on)
        try:
            self._sender.put(request)
            return await self._resending(request)
        finally:
            self._answers.leave(answered_on)
            del self._under_way[correlation]

    async def _heard(self, to: Partition) -> None:
        if self._reply_to is None:
            await self._answers.listen(Partition(self._outcomes, to.number))

    async def _resending(self, request: UnderWay) -> Outcome:
        pause = self._resend_after_s
        while True:
            await asyncio.wait({request.answer}, timeout=pause)
            if request.answer.done():
                return request.answer.result()
            if not request.queued:  # a copy that is not acknowledged yet is being sent again anyway
                self._sender.put(request)
                pause = min(pause * 2, RESEND_AT_MOST_S)

    def _deliver(self, record: Record) -> None:
        correlation = next(header_values(record.headers, "correlation-id"), None)
        request = self._under_way.get(correlation) if correlation is not None else None
        if request is None or request.answer.done():
            self.counters.foreign += 1
            return
        try:
            outcome = decode_outcome(record.value or b"")
        except ValidationError as error:
            self._refuse(record, f"is not an outcome that this version can read: {malformed(error)}")
            return
        its, partition = request.prepared, request.to.number
        if (outcome.account_id, outcome.request_id) != (its.account_id, its.request_id):
            self._refuse(record, f"names request {outcome.request_id} of {outcome.account_id}, not {its.request_id}")
        elif outcome.partition != partition or (self._reply_to is None and record.partition != partition):
            self._refuse(record, f"states partition {outcome.partition}, but {its.account_id} is of {partition}")
        elif outcome.seq in request.seen:
            self.counters.duplicates += 1
        else:
            request.seen.add(outcome.seq)
            self._accept(request, outcome)

    def _accept(self, request: UnderWay, outcome: Outcome) -> None:
        if request.final and outcome.binding and not outcome.final:
            request.stage = outcome
            return
        self.counters.answers += 1
        request.answer.set_result(outcome)

    def _refuse(self, record: Record, why: str) -> None:
        self.counters.refused += 1
        _log.warning("answer ignored: %s[%d] offset %d %s", record.topic, record.partition, record.offset, why)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task of ours that raised is a defect: everything under way hears of it rather than wait for its timeout."""
        defect = None if task.cancelled() else task.exception()
        if defect is not None:
            _log.error("a defect of the client: %r", defect, exc_info=defect)
            for request in self._under_way.values():
                if not request.answer.done():
                    request.answer.set_exception(defect)

    async def _look_up_topics(self) -> int:
        """Learn the number of partitions; return the reply topic's, 0 without one."""
        admin = await Admin.start(self._kafka, self._name)
        try:
            names = [self._requests, self._outcomes, *([self._reply_to] if self._reply_to else [])]
            found = await admin.describe_topics(names)
        finally:
            await admin.close()
        missing = [name for name in names if name not in found]
        if missing:
            raise ConfigurationError(
                f"no topic {' and no topic '.join(missing)} at {self._kafka}: expected those of a ledger; "
                "run `ledgerline init`, or check the prefix"
            )
        requests, outcomes = found[self._requests].partitions, found[self._outcomes].partitions
        if requests != outcomes:
            raise ConfigurationError(
                f"{self._requests} has {requests} partitions, {self._outcomes} has {outcomes}: "
                "expected as many; run `ledgerline doctor`"
            )
        self._partitions = requests
        return found[self._reply_to].partitions if self._reply_to is not None else 0


async def _each(
    requests: Iterable[Mapping[str, Any] | Request] | AsyncIterable[Mapping[str, Any] | Request],
) -> AsyncIterator[Mapping[str, Any] | Request]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
