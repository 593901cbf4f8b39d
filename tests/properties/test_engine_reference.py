"""Any stream of requests gets from the engine what a slow ledger of another structure gives it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import canonical
from schemas.config import Bundle
from schemas.outcomes import CountLimit, Outcome, decode_outcome
from schemas.records import partition_of
from schemas.times import format_time
from tests.engine.desk import Desk, genesis, make_bundle
from tests.properties.ledger_reference import DAY, Expected, Reference, Value

PARTITIONS = 2
HERE = (
    "alice",
    "frank",
    "gina",
)  # of partition 1 of 2, like henry, who may be opened by a request; bob is of partition 0
NAMES = (*HERE, "henry", "bob")
RETRY_WINDOW_S = 3600

BUNDLES = (
    make_bundle("plain", tiers={"gold": []}),
    make_bundle(
        "limits",
        limits=[{"type": "transfer", "currency": "EUR", "per_transaction_minor": 30, "daily_sum_minor": 60}],
        tiers={
            "gold": [
                {"type": kind, "currency": "EUR", "daily_count": 2} for kind in ("deposit", "withdraw", "transfer")
            ]
        },
        near_duplicates=("decline", 60),
    ),
    make_bundle("tags", near_duplicates=("tag", 86_400), decline_at=300),
    make_bundle("counts", limits=[{"type": "withdraw", "currency": "EUR", "daily_count": 1}], decline_at=1),
)


def owner(account_id: str) -> int:
    return partition_of(account_id.encode(), PARTITIONS)


amounts = st.sampled_from([1, 5, 20, 30, 30, 31, 40, 60, 100])
bounds = st.sampled_from([-50, 0, 7, 40])
names = st.sampled_from(NAMES)
payers = st.sampled_from([*HERE, *HERE, *HERE, *NAMES])
currencies = st.sampled_from(["EUR"] * 9 + ["USD"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Value]:
    return st.fixed_dictionaries({}, optional=fields)


def request(request_type: str, extra: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    base = st.fixed_dictionaries(
        {
            "v": st.just(1),
            "type": st.just(request_type),
            "account_id": payers,
            "request_id": st.sampled_from(["new"] * 9 + ["a", "b"]),
        }
    )
    return st.builds(lambda first, second: {**first, **second}, base, extra)


money = {"amount_minor": amounts, "currency": currencies}
fees = st.lists(st.fixed_dictionaries({"code": st.just("fee"), "amount_minor": amounts}), min_size=1, max_size=2)
requests = st.one_of(
    request(
        "open_account",
        st.builds(
            lambda fixed, chosen: {**fixed, **chosen},
            st.fixed_dictionaries({"currency": currencies}),
            optional(
                tier=st.sampled_from(["gold", "standard"]),
                kind=st.sampled_from(["credit", "debit"]),
                floor_minor=bounds,
                ceiling_minor=bounds,
            ),
        ),
    ),
    request(
        "update_account",
        optional(
            status=st.sampled_from(["open", "frozen"]),
            tier=st.sampled_from(["gold", "standard"]),
            floor_minor=bounds,
            ceiling_minor=bounds,
        ).filter(bool),
    ),
    request("close_account", st.just({})),
    request("deposit", st.fixed_dictionaries({**money, "rail": st.sampled_from(["cash", "sepa"])})),
    request("withdraw", st.fixed_dictionaries({**money, "rail": st.just("cash")})),
    request("transfer", st.fixed_dictionaries({**money, "payee": names}, optional={"fees": fees})),
    request("transfer", st.fixed_dictionaries({**money, "payee": names})),
)
sends = st.tuples(
    st.just("send"),
    requests,
    st.sampled_from([0] * 12 + [60_000, 60_001, -3_600_000, -3_600_001]),
    st.sampled_from([""] * 20 + ["alice"]),
)
again = st.tuples(st.just("again"), st.integers(0, 50))
anew = st.tuples(st.just("anew"), st.integers(0, 50))  # the same wish under another id
waits = st.tuples(st.just("wait"), st.sampled_from([1, 30_000, 60_000, 60_001, 1_800_000, 3_600_000, 43_200_000, DAY]))
publishes = st.tuples(st.just("publish"), st.sampled_from(BUNDLES))
rare = st.one_of(again, waits, publishes)
streams = st.tuples(
    st.sampled_from(BUNDLES),
    st.lists(st.one_of(sends, sends, sends, anew, anew, rare), min_size=5, max_size=50),
)

TERMS: tuple[Value, ...] = ({}, {"ceiling_minor": 130}, {"tier": "gold", "floor_minor": -7})
OPENING: tuple[Value, ...] = tuple(
    {"v": 1, "account_id": name, "request_id": f"{kind}-{name}", **fields, **(terms if kind == "open" else {})}
    for name, terms in zip(HERE, TERMS, strict=True)
    for kind, fields in (
        ("open", {"type": "open_account", "currency": "EUR"}),
        ("fund", {"type": "deposit", "currency": "EUR", "amount_minor": 100, "rail": "cash"}),
    )
)


class Comparison:
    """The engine and the reference side by side."""

    def __init__(self, first: Bundle) -> None:
        at_genesis = genesis(1, PARTITIONS, retry_window_s=RETRY_WINDOW_S)
        self.desk = Desk(BUNDLES[0], at_genesis)
        self.reference = Reference(1, owner, RETRY_WINDOW_S * 1000)
        self.sent: list[tuple[Value, int, str]] = []
        self.publish(first)

    def publish(self, bundle: Bundle) -> None:
        self.desk.publish(bundle)
        self.reference.bundle = bundle.model_dump(exclude_none=True)

    def send(self, value: Value, requested_at: int, key: str) -> None:
        self.sent.append((value, requested_at, key))
        outcome = decode_outcome(self.desk.receive(canonical(value), key.encode()).outcome)
        at, seq = self.desk.at, self.desk.book.seq
        assert self.desk.decisions[-1].defect is None, self.desk.decisions[-1].defect
        expected = self.reference.expect(value, requested_at, key, at, outcome.score)
        found = Expected(outcome.status, outcome.reason, outcome.replayed, outcome.binding, expected.of)
        assert found == expected
        assert outcome.transaction == f"1-{expected.of or seq}"
        assert outcome.seq == seq
        tagged = outcome.status == "accepted" and self._tagged(value, at)
        self.reference.record(seq, at, requested_at, value, expected)
        if expected.binding and not expected.replayed:
            self._compare_position(value, outcome)
            self._compare_limits(value, outcome, at)
            assert tagged == ("near_duplicate" in outcome.rules) or expected.status == "declined"

    def _tagged(self, value: Value, at: int) -> bool:
        action = self.reference.bundle["near_duplicates"]["action"]
        return value["type"] == "transfer" and action == "tag" and self.reference.looks_like_earlier(value, at)

    def _compare_position(self, value: Value, outcome: Outcome) -> None:
        terms = self.reference.accounts().get(value["account_id"])
        if terms is None or value.get("currency", terms["currency"]) != terms["currency"]:
            assert (outcome.balance_minor, outcome.available_minor) == (None, None)
            return
        net = self.reference.net(value["account_id"])
        assert outcome.balance_minor == (net if terms["kind"] == "credit" else -net)
        assert outcome.available_minor == self.reference.available(value["account_id"], terms)
        assert outcome.available_minor >= 0

    def _compare_limits(self, value: Value, outcome: Outcome, at: int) -> None:
        if not outcome.limits:
            return
        limit = self.reference.limit(value, self.reference.accounts()[value["account_id"]])
        assert limit is not None
        used_minor, used = self.reference.used(value["account_id"], value["type"], at // DAY)
        own = value["amount_minor"] if outcome.status == "accepted" else 0
        told = {
            each.name: (each.used, each.limit) if isinstance(each, CountLimit) else (each.used_minor, each.limit_minor)
            for each in outcome.limits
        }
        want = {"per_transaction": own, "daily_sum": used_minor, "daily_count": used}
        names = {
            "per_transaction": "per_transaction_minor",
            "daily_sum": "daily_sum_minor",
            "daily_count": "daily_count",
        }
        assert told == {name: (want[name], limit[field]) for name, field in names.items() if field in limit}

    def compare_books(self) -> None:
        """Every counter of the engine is the sum of the reference's postings, and all sum to zero per currency."""
        book = self.desk.book
        found = {name: acc.credits_posted - acc.debits_posted for name, acc in book.accounts.items()}
        found |= {name: acc.credits_posted - acc.debits_posted for name, acc in book.system_accounts.items()}
        touched = {name for name, _, _ in self.reference.postings()}
        assert found == {name: self.reference.net(name) for name in touched | set(self.reference.accounts())}
        sums: dict[str, int] = {}
        for _, currency, moved in self.reference.postings():
            sums[currency] = sums.get(currency, 0) + moved
        assert set(sums.values()) <= {0}


@settings(max_examples=250)
@given(streams)
def test_the_engine_answers_like_a_ledger_that_recounts_everything(stream: tuple[Bundle, list[Any]]) -> None:
    both = Comparison(stream[0])
    for value in OPENING:
        both.send({**value, "requested_at": format_time(both.desk.at)}, both.desk.at, value["account_id"])
    for number, (kind, *arguments) in enumerate(stream[1]):
        match kind:
            case "wait":
                both.desk.wait(arguments[0])
            case "publish":
                both.publish(arguments[0])
            case "again":
                value, requested_at, key = both.sent[arguments[0] % len(both.sent)]
                both.send(value, requested_at, key)
            case "anew":
                value, _, key = both.sent[arguments[0] % len(both.sent)]
                again = {**value, "request_id": f"n{number}", "requested_at": format_time(both.desk.at)}
                both.send(again, both.desk.at, key)
            case _:
                fields, shift, key = arguments
                requested_at = both.desk.at + shift
                request_id = f"n{number}" if fields["request_id"] == "new" else fields["request_id"]
                value = {**fields, "request_id": request_id, "requested_at": format_time(requested_at)}
                both.send(value, requested_at, key or value["account_id"])
    both.compare_books()
