"""``journal``: the log of a partition for people: leases, blocks, events, and the hash of its state."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, assert_never

import orjson
import typer
from msgspec import to_builtins

from ledgerline import journals
from ledgerline.cli.outcomes import COLOURS
from ledgerline.cli.shared import AsJson, Cell, Table, echo, kafka_address, print_json, print_json_line, run
from ledgerline.journals import Read, Told
from ledgerline.settings import load_settings
from schemas.events import Answer, ConfigPickup, Genesis, Skip
from schemas.times import format_time
from streams.fold import Folded, fold_journal
from streams.journal.framing import BlockHeaders
from streams.journal.reading import Duplicate, Stale, ValidBlock, WonLease


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(journal)


def journal(
    *,
    partition: Annotated[
        int | None, typer.Option(min=0, help="Without it every partition, one after the other.")
    ] = None,
    from_seq: Annotated[int, typer.Option(min=1, help="Begin with this event.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many events of a partition.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes; needs --partition.")] = False,
    state_hash: Annotated[
        bool, typer.Option("--state-hash", help="Fold the journal and print only the hash of the state.")
    ] = False,
    upto_seq: Annotated[int | None, typer.Option(min=1, help="With --state-hash: the state behind this event.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read the journal by the reading rule and show what each record means; --json prints one line per record.

    Exits with 4 where the rule finds the journal broken.

    Example: ledgerline journal --partition 3 --from-seq 120 --limit 10
    """
    if follow and partition is None:
        raise typer.BadParameter("expected --partition with --follow", param_hint="--follow")
    if upto_seq is not None and not state_hash:
        raise typer.BadParameter("expected --state-hash with --upto-seq", param_hint="--upto-seq")
    settings = load_settings()
    kafka, prefix = kafka_address(settings), settings.prefix
    count = run(journals.partitions_of(kafka, prefix))
    if partition is not None and partition >= count:
        raise typer.BadParameter(f"the ledger has the partitions 0 to {count - 1}", param_hint="--partition")
    chosen = range(count) if partition is None else [partition]
    if state_hash:
        _print_hashes([run(fold_journal(kafka, prefix, p, upto_seq=upto_seq)) for p in chosen], as_json=as_json)
        return
    printer: _Printer = _Lines() if as_json else _Pages()
    for number in chosen:
        with contextlib.suppress(KeyboardInterrupt):
            run(_print(_Wanted(kafka, prefix, number, from_seq, limit, follow), printer))


def _print_hashes(hashes: list[Folded], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "partition": one.partition,
                    "seq": one.seq,
                    "state_hash": one.state_hash,
                    "position": one.position.to_plain(),
                }
                for one in hashes
            ]
        )
        return
    shown = Table("partition", "seq", "at", "state hash", right=frozenset({"partition", "seq"}))
    for one in hashes:
        shown.add(str(one.partition), str(one.seq), format_time(one.position.at), one.state_hash)
    shown.show()


@dataclass(frozen=True, slots=True)
class _Wanted:
    kafka: str
    prefix: str
    partition: int
    from_seq: int
    limit: int | None
    follow: bool


async def _print(wanted: _Wanted, printer: "_Printer") -> None:
    """From the event *from_seq* on: with 1 everything, otherwise what lies in front of its block is passed over."""
    partition, from_seq, left = wanted.partition, wanted.from_seq, wanted.limit
    async with journals.opened(wanted.kafka, wanted.prefix, partition) as log:
        if from_seq == 1:
            printer.genesis(await journals.genesis_of(log, partition))
        seq = 0
        async for read in journals.read_all(log, partition, follow=wanted.follow):
            events: list[Told] = []
            if isinstance(read.verdict, ValidBlock):
                block, seq = read.verdict, read.verdict.last_seq
                seqs = range(max(block.headers.seq, from_seq), seq + 1)
                events = [journals.told(block, partition, number) for number in seqs][:left]
            if seq < from_seq - 1 or (isinstance(read.verdict, ValidBlock) and not events):
                continue
            printer.record(read, events)
            if left is not None:
                left -= len(events)
                if left == 0:
                    return


class _Printer(Protocol):
    """How the journal is shown."""

    def genesis(self, genesis: Genesis) -> None:
        """Show offset 0."""

    def record(self, read: Read, events: list[Told]) -> None:
        """Show a record, and of a valid block *events*."""


class _Pages(_Printer):
    """For people: one line a record, below a block one line an event."""

    def genesis(self, genesis: Genesis) -> None:
        ledger = f"ledger {genesis.ledger_id}, partition {genesis.partition} of {genesis.partitions}"
        self._line(0, Cell("genesis", "bold"), f"{ledger}, format {genesis.format}, {format_time(genesis.at)}")

    def record(self, read: Read, events: list[Told]) -> None:
        offset, verdict = read.record.offset, read.verdict
        match verdict:
            case WonLease(epoch=epoch, token=token, owner=owner):
                self._line(offset, Cell("lease", "cyan"), f"epoch {epoch}, token {token.hex()}, {owner}")
            case ValidBlock(headers=headers, value=value):
                self._line(
                    offset,
                    Cell("block", "bold"),
                    f"seq {headers.seq}..{headers.last_seq}, epoch {headers.epoch}, {len(value):,} bytes, "
                    f"chain {headers.chain.hex()}, published through {headers.published_through}",
                )
            case Stale(headers=headers):
                what = f"block of seq {headers.seq}.." if isinstance(headers, BlockHeaders) else "lease"
                self._line(offset, Cell("stale", "yellow"), f"{what} of epoch {headers.epoch}: no effect")
            case Duplicate(headers=headers):
                what = f"block of seq {headers.seq}" if isinstance(headers, BlockHeaders) else "genesis"
                self._line(offset, Cell("duplicate", "yellow"), f"further copy of the {what}: no effect")
            case _:
                assert_never(verdict)
        for told in events:
            echo(f"{'':>10}  {told.transaction:<12}", *_sentence(told.event))

    @staticmethod
    def _line(offset: int, kind: Cell, rest: str) -> None:
        echo(f"{offset:>10}  ", kind, f" {rest}")


def _sentence(event: Answer | Skip | ConfigPickup) -> tuple[str | Cell, ...]:
    at = f"{format_time(event.at)} "
    match event:
        case Answer():
            status = Cell(event.status + (" (replayed)" if event.replayed else ""), COLOURS[event.status])
            why = f" {event.reason}" if event.reason else ""
            who = f" {event.type or 'unreadable'} {event.account_id or ''} {event.request_id or ''}".rstrip()
            legs = f", {len(event.legs)} legs" if event.legs else ""
            return at, status, f"{why}{who}, offset {event.offset}{legs}"
        case Skip():
            return at, Cell("skip", "yellow"), f" {event.topic} offset {event.offset}: {event.reason}"
        case ConfigPickup():
            why = f": {event.reason}" if event.reason else ""
            what = f" {event.verdict} version {event.version}, config offset {event.offset}{why}"
            return at, Cell("config", "cyan"), what
        case _:
            assert_never(event)


class _Lines(_Printer):
    """For programs: one JSON object a record."""

    def genesis(self, genesis: Genesis) -> None:
        print_json_line({"offset": 0, "kind": "genesis", "verdict": "valid", **genesis.model_dump(mode="json")})

    def record(self, read: Read, events: list[Told]) -> None:
        verdict = read.verdict
        plain: dict[str, Any] = {"offset": verdict.offset}
        match verdict:
            case WonLease(epoch=epoch, token=token, owner=owner):
                plain |= {"kind": "lease", "verdict": "valid", "epoch": epoch, "token": token.hex(), "owner": owner}
            case ValidBlock(headers=headers):
                plain |= {"kind": "block", "verdict": "valid", **_plain(headers)}
                plain["events"] = [dict(_plain_event(told)) for told in events]
            case Stale(headers=headers):
                kind = "block" if isinstance(headers, BlockHeaders) else "lease"
                plain |= {"kind": kind, "verdict": "stale", "epoch": headers.epoch, "token": headers.token.hex()}
            case Duplicate(headers=headers):
                if isinstance(headers, BlockHeaders):
                    plain |= {"kind": "block", "verdict": "duplicate", **_plain(headers)}
                else:
                    plain |= {"kind": "genesis", "verdict": "duplicate"}
            case _:
                assert_never(verdict)
        print_json_line(plain)


def _plain(headers: BlockHeaders) -> dict[str, Any]:
    return {
        "epoch": headers.epoch,
        "token": headers.token.hex(),
        "seq": headers.seq,
        "count": headers.count,
        "chain": headers.chain.hex(),
        "published_through": headers.published_through,
    }


def _plain_event(told: Told) -> Iterator[tuple[str, Any]]:
    """The fields of the event, with the bytes in the place of the spans that point to them."""
    yield "transaction", told.transaction
    spans = {"record", "outcome", "explanation"}
    yield from ((name, value) for name, value in to_builtins(told.event).items() if name not in spans)
    if told.outcome is not None and told.explanation is not None:
        yield "outcome", orjson.Fragment(told.outcome)
        yield "explanation", orjson.Fragment(told.explanation)
