"""A slow ledger of another structure, to compare the engine with: a list of what was answered, recounted each time.

It keeps no balances, counters, windows or memories: every question is answered by reading the whole history. It shares
no code with ``engine``. The score is not recomputed here: the engine's number is taken, its effect is not.
"""

from dataclasses import dataclass
from typing import Any

Value = dict[str, Any]
HOUR, DAY = 3_600_000, 86_400_000


@dataclass(frozen=True)
class Answered:
    """A request that was answered for good."""

    seq: int
    at: int
    requested_at: int
    value: Value
    status: str
    reason: str | None


@dataclass(frozen=True)
class Expected:
    """What the engine must say."""

    status: str
    reason: str | None
    replayed: bool = False
    binding: bool = True
    of: int | None = None


class Reference:
    """One partition. *owner* maps an account to its partition."""

    def __init__(self, partition: int, owner: Any, retry_window_ms: int) -> None:
        self.partition = partition
        self.owner = owner
        self.retry_window_ms = retry_window_ms
        self.history: list[Answered] = []
        self.bundle: Value = {}

    def expect(self, value: Value, requested_at: int, key: str, at: int, score: int | None) -> Expected:
        """Return the answer to *value* at *at*; *score* is what the engine gave, used for the threshold only."""
        reason = self._gate(value, requested_at, key, at)
        if reason is not None:
            return Expected("rejected", reason, binding=False)
        earlier = [
            past
            for past in self.history
            if past.value["account_id"] == value["account_id"]
            and past.value["request_id"] == value["request_id"]
            and at <= (past.requested_at // HOUR + 1) * HOUR + self.retry_window_ms
        ]
        if earlier:
            original = earlier[-1]
            if original.value == value:
                return Expected(original.status, original.reason, replayed=True, of=original.seq)
            return Expected("rejected", "idempotency_conflict", binding=False, of=original.seq)
        if at > requested_at + self.retry_window_ms:
            return Expected("rejected", "too_old", binding=False)
        reason = self._refusal(value, at)
        threshold = self.bundle["scoring"].get("decline_at")
        if reason is None and score is not None and threshold is not None and score >= threshold:
            reason = "score_too_high"
        return Expected("accepted" if reason is None else "declined", reason)

    def record(self, seq: int, at: int, requested_at: int, value: Value, expected: Expected) -> None:
        """Remember what was answered, if it binds and is no replay."""
        if expected.binding and not expected.replayed:
            self.history.append(Answered(seq, at, requested_at, value, expected.status, expected.reason))

    def accounts(self) -> dict[str, Value]:
        """Return the terms of every account, by reading all requests again."""
        terms: dict[str, Value] = {}
        for past in self._accepted():
            value = past.value
            name = value["account_id"]
            if value["type"] == "open_account":
                start = {
                    "status": "open",
                    "tier": "standard",
                    "kind": "credit",
                    "floor_minor": 0,
                    "ceiling_minor": None,
                }
                terms[name] = start | {k: v for k, v in value.items() if k in start or k == "currency"}
            elif value["type"] == "update_account":
                terms[name] |= {k: v for k, v in value.items() if k in terms[name]}
            elif value["type"] == "close_account":
                terms[name] |= {"status": "closed"}
        return terms

    def postings(self) -> list[tuple[str, str, int]]:
        """Return every posting ever made as (account, currency, credit minus debit), by reading all requests again."""
        found: list[tuple[str, str, int]] = []
        for past in self._accepted():
            value = past.value
            if "amount_minor" not in value:
                continue
            amount, currency, name = int(value["amount_minor"]), str(value["currency"]), str(value["account_id"])
            fees = [int(fee["amount_minor"]) for fee in value.get("fees", [])]
            if value["type"] == "transfer":
                found += [(name, currency, -amount - sum(fees)), (value["payee"], currency, amount)]
                found += [(f"sys:fees:{currency}", currency, sum(fees))] if fees else []
            else:
                signed = amount if value["type"] == "deposit" else -amount
                found += [(name, currency, signed), (f"sys:external:{value['rail']}:{currency}", currency, -signed)]
        return found

    def net(self, name: str) -> int:
        return sum(moved for account, _, moved in self.postings() if account == name)

    def available(self, name: str, terms: Value) -> int:
        if terms["kind"] == "credit":
            return self.net(name) - int(terms["floor_minor"])
        return int(terms["ceiling_minor"] or 0) + self.net(name)

    def used(self, name: str, request_type: str, day: int) -> tuple[int, int]:
        amounts = [
            past.value["amount_minor"]
            for past in self._accepted()
            if past.value["account_id"] == name and past.value["type"] == request_type and past.at // DAY == day
        ]
        return sum(amounts), len(amounts)

    def looks_like_earlier(self, value: Value, at: int) -> bool:
        same = ("type", "account_id", "payee", "amount_minor", "currency")
        window_ms = self.bundle["near_duplicates"]["window_s"] * 1000
        return any(
            at - past.at <= window_ms and all(past.value.get(name) == value.get(name) for name in same)
            for past in self._accepted()
        )

    def limit(self, value: Value, terms: Value) -> Value | None:
        for limit in self.bundle["tiers"][terms["tier"]]["limits"]:
            if limit["type"] == value["type"] and limit["currency"] == value["currency"]:
                return dict(limit)
        return None

    def _accepted(self) -> list[Answered]:
        return [past for past in self.history if past.status == "accepted"]

    def _gate(self, value: Value, requested_at: int, key: str, at: int) -> str | None:
        if key != value["account_id"]:
            return "wrong_key"
        if self.owner(value["account_id"]) != self.partition:
            return "wrong_partition"
        return "from_the_future" if requested_at - at > 60_000 else None

    def _refusal(self, value: Value, at: int) -> str | None:
        terms = self.accounts()
        mine = terms.get(value["account_id"])
        if value["type"] == "open_account":
            return self._opening(value, mine)
        if mine is None:
            return "account_not_found"
        if mine["status"] == "closed":
            return "account_closed"
        if value["type"] == "update_account":
            return self._updating(value, mine)
        if value["type"] == "close_account":
            return "balance_not_zero" if self.net(value["account_id"]) != 0 else None
        return self._paying(value, mine, terms, at)

    def _opening(self, value: Value, mine: Value | None) -> str | None:
        if mine is not None:
            return "account_exists"
        if value.get("tier", "standard") not in self.bundle["tiers"]:
            return "unknown_tier"
        credit = value.get("kind", "credit") == "credit"
        room = -value.get("floor_minor", 0) if credit else value.get("ceiling_minor", 0)
        return "insufficient_funds" if room < 0 else None

    def _updating(self, value: Value, mine: Value) -> str | None:
        if "tier" in value and value["tier"] not in self.bundle["tiers"]:
            return "unknown_tier"
        after = mine | {k: v for k, v in value.items() if k in mine}
        return "insufficient_funds" if self.available(value["account_id"], after) < 0 else None

    def _paying(self, value: Value, mine: Value, terms: dict[str, Value], at: int) -> str | None:
        name, amount, leaving = value["account_id"], value["amount_minor"], value["type"] != "deposit"
        if leaving and mine["status"] == "frozen":
            return "account_frozen"
        if mine["currency"] != value["currency"]:
            return "currency_mismatch"
        if value["type"] == "transfer" and (reason := self._payee(value, terms)):
            return reason
        if mine["tier"] not in self.bundle["tiers"]:
            return "unknown_tier"
        if leaving and amount + sum(fee["amount_minor"] for fee in value.get("fees", [])) > self.available(name, mine):
            return "insufficient_funds"
        credited = value["payee"] if value["type"] == "transfer" else name
        into = terms[credited]
        bounded = value["type"] != "withdraw" and into["kind"] == "credit" and into["ceiling_minor"] is not None
        if bounded and self.net(credited) + amount > into["ceiling_minor"]:
            return "ceiling_exceeded"
        return self._risk(value, mine, at)

    def _payee(self, value: Value, terms: dict[str, Value]) -> str | None:
        if value["payee"] == value["account_id"]:
            return "same_account"
        if self.owner(value["payee"]) != self.partition:
            return "payee_on_other_partition"
        if value["payee"] not in terms:
            return "payee_not_found"
        payee = terms[value["payee"]]
        if payee["status"] == "closed":
            return "payee_closed"
        return "payee_currency_mismatch" if payee["currency"] != value["currency"] else None

    def _risk(self, value: Value, mine: Value, at: int) -> str | None:
        limit = self.limit(value, mine) or {}
        used_minor, used = self.used(value["account_id"], value["type"], at // DAY)
        for name, would_be in (
            ("per_transaction_minor", value["amount_minor"]),
            ("daily_sum_minor", used_minor + value["amount_minor"]),
            ("daily_count", used + 1),
        ):
            if name in limit and would_be > limit[name]:
                return name.removesuffix("_minor") + "_limit"
        duplicates = self.bundle["near_duplicates"]
        if value["type"] == "transfer" and duplicates["action"] == "decline" and self.looks_like_earlier(value, at):
            return "near_duplicate"
        return None
