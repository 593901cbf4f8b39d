"""The hash of a whole book: equal states have equal hashes, in any process, whatever the order of their dicts."""

import hashlib
from collections.abc import Iterator

from msgspec.structs import asdict, astuple

from engine.book import Account, Book, SystemAccount
from schemas.codec import canonical


def state_hash(book: Book) -> str:
    """Return SHA-256, in hex, over the canonical lines of :func:`state_lines`, each with a line feed."""
    digest = hashlib.sha256()
    for line in state_lines(book):
        digest.update(line)
        digest.update(b"\n")
    return digest.hexdigest()


def state_lines(book: Book) -> Iterator[bytes]:
    """Yield the whole state as canonical JSON: the book, then accounts, system accounts and memories, sorted by id."""
    ruleset = book.ruleset
    yield canonical(
        {
            "genesis": book.genesis.model_dump(),
            "seq": book.seq,
            "at": book.at,
            "next_offset": book.next_offset,
            "config_offset": book.config_offset,
            "ruleset": None if ruleset is None else [ruleset.offset, ruleset.sha256, ruleset.version],
            "versions": book.versions,
        }
    )
    for account_id in sorted(book.accounts):
        yield canonical(_account(book.accounts[account_id]))
    for account_id in sorted(book.system_accounts):
        yield canonical(_system_account(account_id, book.system_accounts[account_id]))
    yield from _generations("answered", book.memory.generations)
    yield from _generations("paid", book.payments.generations)


def _account(account: Account) -> dict[str, object]:
    habits = account.habits
    return {
        "account": asdict(account.terms()),
        "debits_posted": account.debits_posted,
        "credits_posted": account.credits_posted,
        "held": account.held,
        "usage": {
            request_type: list(zip(used.days, used.sums_minor, used.counts, strict=True))
            for request_type, used in account.usage.items()
        },
        "habits": None if habits is None else (account.paid_at, *astuple(habits)[:-1]),  # the hour is in the hours
        "hours": list(account.hours),
    }


def _system_account(account_id: str, counters: SystemAccount) -> dict[str, object]:
    return {
        "system_account": account_id,
        "debits_posted": counters.debits_posted,
        "credits_posted": counters.credits_posted,
    }


def _generations(name: str, generations: dict[int, dict[bytes, bytes]]) -> Iterator[bytes]:
    for number in sorted(generations):
        entries = generations[number]
        yield canonical({name: number, "entries": [(key + entries[key]).hex() for key in sorted(entries)]})
