"""Runs scenarios: tables of requests with the answers they must get, as text (tests/scenarios/*.txt).

One line is one command; ``#`` begins a comment. Amounts are decimal; times are those of the partition's log.

    partition 3 of 8                       the partition under test; 0 of 1 otherwise
    tier gold transfer EUR per_transaction=5.00 sum=10.00 count=3
    near_duplicates decline 60             pass | tag | decline, window in seconds
    decline_at 700                         the score's threshold
    publish v2                             the bundle of the lines above is in force; `clear` forgets its tiers
    wait 61s                               s, m, h, d or ms
    open alice EUR 100.00 tier=gold        opens and, above zero, funds, as requests open-alice and fund-alice
    open r0 alice EUR -> declined account_exists
    update|close r1 alice status=frozen -> accepted
    deposit|withdraw r2 alice 10.00 -> accepted
    transfer r3 alice bob 60.00 fee=0.10 -> accepted
    record alice {"v": 1} -> rejected malformed    any value under any key; `-` is null; "x"*70000 repeats
    repeat 20 withdraw r alice 1.00        r-1, r-2, ...; the last answer must match
    balance alice 40.00 | available alice 40.00 | system sys:fees:EUR 0.10
    break alice                            plants a defect: the engine fails on this account

Behind ``->``: status, reason, then any of ``replayed``, ``nonbinding``, ``field=value`` of the outcome, ``of=r3`` (the
transaction of r3), ``used.daily_sum=60.00``, ``left.daily_sum=40.00``, ``rules=near_duplicate``. A request sent again
keeps its ``requested_at``; ``requested=-25h`` moves it, ``key=x`` gives the record another key, ``cur=USD`` another
currency.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from schemas.bounds import MAX_METADATA_KEYS
from schemas.codec import canonical
from schemas.currencies import EXPONENTS, format_amount
from schemas.outcomes import CountLimit, Outcome, decode_outcome
from schemas.times import format_time
from tests.engine.desk import Desk, genesis, make_bundle

FOLDER = Path(__file__).parent
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FIELDS = {"tier": str, "kind": str, "status": str, "rail": str}


class ScenarioFailed(AssertionError):
    """A line whose answer is not the expected one."""


@dataclass
class Scenario:
    """The state of one run."""

    partition: int = 0
    partitions: int = 1
    tiers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    near_duplicates: tuple[str, int] = ("pass", 60)
    decline_at: int | None = None
    desk: Desk | None = None
    requested: dict[tuple[str, str], int] = field(default_factory=dict)
    transactions: dict[str, str] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)
    last: Outcome | None = None
    broken: bool = False

    def running(self) -> Desk:
        """Start the partition at the first request."""
        if self.desk is None:
            at_genesis = genesis(self.partition, self.partitions)
            self.desk = Desk(self.bundle("start"), at_genesis)
        return self.desk

    def bundle(self, version: str) -> Any:
        standard = self.tiers.get("standard", [])
        others = {name: limits for name, limits in self.tiers.items() if name != "standard"}
        return make_bundle(
            version,
            limits=standard,
            tiers=others,
            near_duplicates=self.near_duplicates,
            decline_at=self.decline_at,
        )


def run_scenario(text: str) -> Scenario:
    """Run *text*; raises :class:`ScenarioFailed` naming the line, what was expected and what was answered."""
    scenario = Scenario()
    for number, line in enumerate(text.splitlines(), 1):
        command = re.sub(r"(^|\s)#.*$", "", line).strip()
        if command:
            try:
                _run(scenario, command)
            except Exception as error:
                raise ScenarioFailed(f"line {number}: {command}\n  {type(error).__name__}: {error}") from error
    return scenario


def _run(scenario: Scenario, command: str) -> None:
    todo, arrow, expected = command.partition("->")
    verb, *words = todo.split()
    match verb:
        case "partition" | "tier" | "clear" | "near_duplicates" | "decline_at" | "publish":
            _rules(scenario, verb, words)
        case "wait":
            scenario.running().wait(_duration(words[0]))
        case "balance" | "available" | "system":
            _check_counter(scenario, verb, words[0], words[1])
        case "break":
            scenario.running().book.accounts[words[0]].floor_minor = "broken"  # type: ignore[assignment]
            scenario.running().checked = False
            scenario.broken = True
        case "repeat":
            _repeat(scenario, int(words[0]), words[1], words[2:])
        case "record":
            key, value = todo.split(None, 2)[1:]
            _answer(scenario, _value(value), None if key == "-" else key.encode(), "")
        case _:
            _request(scenario, verb, words)
    if arrow:
        assert scenario.last is not None, "nothing was answered yet"
        _compare(scenario, scenario.last, expected.split())


def _rules(scenario: Scenario, verb: str, words: list[str]) -> None:
    match verb:
        case "partition":
            scenario.partition, scenario.partitions = int(words[0]), int(words[2])
        case "tier":
            scenario.tiers.setdefault(words[0], []).extend(_limit(words[1:]) if len(words) > 1 else [])
        case "clear":
            scenario.tiers = {}
        case "near_duplicates":
            scenario.near_duplicates = (words[0], int(words[1]))
        case "decline_at":
            scenario.decline_at = int(words[0])
        case _:
            scenario.running().publish(scenario.bundle(words[0]))


def _repeat(scenario: Scenario, times: int, verb: str, words: list[str]) -> None:
    desk = scenario.running()
    checked, desk.checked = desk.checked, times < 100
    for number in range(1, times + 1):
        _request(scenario, verb, [f"{words[0]}-{number}", *words[1:]])
    desk.checked = checked


def _request(scenario: Scenario, verb: str, words: list[str]) -> None:
    positional = [word for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    amount = None
    if verb == "open":
        if positional[1] in EXPONENTS:  # no request id: open and fund
            positional.insert(0, f"open-{positional[0]}")
        request_id, account_id, currency, *rest = positional
        amount = rest[0] if rest and Decimal(rest[0]) else None
        fields: dict[str, Any] = {"type": "open_account", "currency": currency}
    elif verb in ("update", "close"):
        request_id, account_id = positional
        fields = {"type": f"{verb}_account"}
    else:
        request_id, account_id, *rest = positional
        fields = {"type": verb, "currency": options.pop("cur", None) or _currency(scenario, account_id)}
        if verb == "transfer":
            fields["payee"] = rest.pop(0)
        else:
            fields["rail"] = "cash"
        fields["amount_minor"] = _minor(rest[0], fields["currency"])
    key = options.pop("key", account_id)
    shift = _duration(options.pop("requested", "0s"))
    _options(fields, options, scenario, account_id)
    _send(scenario, request_id, account_id, fields, key, shift)
    if amount is not None:
        assert scenario.last is not None
        assert scenario.last.status == "accepted", scenario.last
        _request(scenario, "deposit", [f"fund-{account_id}", account_id, amount])
        assert scenario.last.status == "accepted", scenario.last


def _options(fields: dict[str, Any], options: dict[str, str], scenario: Scenario, account_id: str) -> None:
    currency = fields.get("currency") or _currency(scenario, account_id)
    for name, text in options.items():
        if name in ("floor", "ceiling"):
            fields[f"{name}_minor"] = _minor(text, currency)
        elif name == "fee":
            fees = [{"code": f"f{n}", "amount_minor": _minor(each, currency)} for n, each in enumerate(text.split(","))]
            fields["fees"] = fees
        elif name in _FIELDS:
            fields[name] = text
        else:
            fields["metadata"] = {name: text}
            assert len(fields["metadata"]) <= MAX_METADATA_KEYS


def _send(
    scenario: Scenario, request_id: str, account_id: str, fields: dict[str, Any], key: str, shift_ms: int
) -> None:
    desk = scenario.running()
    pair = (account_id, request_id)
    requested_at = scenario.requested.setdefault(pair, desk.at + shift_ms) if not shift_ms else desk.at + shift_ms
    value = {
        "v": 1,
        "request_id": request_id,
        "account_id": account_id,
        "requested_at": format_time(requested_at),
        **fields,
    }
    _answer(scenario, canonical(value), key.encode(), request_id)


def _answer(scenario: Scenario, value: bytes | None, key: bytes | None, name: str) -> None:
    decision = scenario.running().receive(value, key)
    if decision.defect is not None and not scenario.broken:
        raise decision.defect
    scenario.last = decode_outcome(decision.outcome)
    scenario.transactions.setdefault(name, scenario.last.transaction)
    if scenario.last.reason is not None:
        scenario.reasons.add(scenario.last.reason)


def _compare(scenario: Scenario, outcome: Outcome, expected: list[str]) -> None:
    status, *words = expected
    reason = (
        words.pop(0)
        if words and re.fullmatch(r"[a-z_]+", words[0]) and words[0] not in ("replayed", "nonbinding")
        else None
    )
    wanted: dict[str, str] = {"status": status, "reason": str(reason)}
    wanted |= {"replayed": str("replayed" in words), "binding": str("nonbinding" not in words)}
    wanted |= dict(word.split("=", 1) for word in words if "=" in word)
    found = {name: _found(scenario, outcome, name) for name in wanted}
    if "of" in wanted:
        wanted["of"] = scenario.transactions[wanted["of"]]
    assert found == wanted, f"\n  expected {wanted}\n  found    {found}\n  {outcome.detail}"


def _found(scenario: Scenario, outcome: Outcome, name: str) -> str:
    if name == "of":
        return outcome.transaction
    if name == "rules":
        return ",".join(outcome.rules)
    kind, _, limit_name = name.partition(".")
    if not limit_name:
        value = getattr(outcome, name)
        if name.endswith("_minor") and value is not None and outcome.currency is not None:
            return format_amount(value, outcome.currency)
        return str(value)
    for limit in outcome.limits:
        if limit.name == limit_name:
            if isinstance(limit, CountLimit):
                return str(limit.used if kind == "used" else limit.remaining)
            return format_amount(limit.used_minor if kind == "used" else limit.remaining_minor, outcome.currency or "")
    return "no such limit"


def _check_counter(scenario: Scenario, verb: str, name: str, expected: str) -> None:
    book = scenario.running().book
    if verb == "system":
        counters = book.system_accounts[name]
        found = format_amount(counters.credits_posted - counters.debits_posted, name.rsplit(":", 1)[1])
    else:
        account = book.accounts[name]
        found = format_amount(account.balance_minor if verb == "balance" else account.available_minor, account.currency)
    assert found == expected, f"expected {expected}, found {found}"


def _limit(words: list[str]) -> list[dict[str, Any]]:
    request_type, currency, *options = words
    limit: dict[str, Any] = {"type": request_type, "currency": currency}
    for name, text in (option.split("=") for option in options):
        if name == "count":
            limit["daily_count"] = int(text)
        else:
            limit["per_transaction_minor" if name == "per_transaction" else "daily_sum_minor"] = _minor(text, currency)
    return [limit]


def _currency(scenario: Scenario, account_id: str) -> str:
    account = scenario.running().book.accounts.get(account_id)
    return "EUR" if account is None else account.currency


def _minor(text: str, currency: str) -> int:
    minor = Decimal(text).scaleb(EXPONENTS[currency])
    assert minor == int(minor), f"{text} {currency} has too many digits"
    return int(minor)


def _duration(text: str) -> int:
    number, unit = re.fullmatch(r"([+-]?\d+)(ms|s|m|h|d)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


def _value(text: str) -> bytes | None:
    repeated = re.fullmatch(r'"(.)"\*(\d+)', text.strip())
    if repeated:
        return repeated[1].encode() * int(repeated[2])
    return None if text.strip() == "-" else text.strip().encode()
