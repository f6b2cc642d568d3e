"""Which replica a ticket goes to."""

import numpy as np

from adapters.refs import AdapterRef
from serving.affinity import AWAY_ROWS, EXPECTED_S, MISSING_ROWS, Affinity
from serving.request import Holding, Reduction, Ticket
from tests.serving.samples import stack


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ref(name: str, tenant: str = "acme") -> AdapterRef:
    return AdapterRef(tenant, name, 1, f"sha256:{name:0>64}")


def ticket(*names: str, ident: str = "t", tenant: str = "acme") -> Ticket:
    composition = stack(*(ref(name, tenant) for name in names))
    ids = np.array([1, 2], np.int32)
    return Ticket(ident, tenant, composition, None, None, ids, None, Reduction("hidden_state"), 1000.0)


def held(replica: str, *names: str, warm: bool = True) -> Holding:
    return Holding(replica, frozenset(ref(name).key for name in names), warm=warm)


def two(a: tuple[str, ...] = (), b: tuple[str, ...] = (), clock: Clock | None = None) -> Affinity:
    affinity = Affinity(clock or Clock())
    affinity.observe({"a": held("a", *a), "b": held("b", *b)})
    return affinity


def test_a_ticket_goes_where_its_adapters_are():
    affinity = two(a=("x",), b=("y",))
    assert affinity.choose(ticket("x"), {}) == "a"
    assert affinity.choose(ticket("y"), {}) == "b"


def test_a_stack_goes_where_most_of_it_is():
    assert two(a=("x",), b=("x", "y")).choose(ticket("x", "y"), {}) == "b"


def test_the_digest_of_another_tenant_is_not_held():
    affinity = two(a=("x",))
    foreign = {affinity.choose(ticket("x", tenant=f"other-{i}"), {}) for i in range(20)}
    assert foreign == {"a", "b"}


def test_a_long_line_outweighs_one_load_but_no_less():
    affinity = two(a=("x",))
    assert affinity.choose(ticket("x"), {"a": int(MISSING_ROWS) - 1}) == "a"
    assert affinity.choose(ticket("x"), {"a": int(MISSING_ROWS) + 1}) == "b"


def test_gateways_that_never_talk_agree_on_the_home_of_a_cold_adapter():
    one, other = two(), two()
    homes = {name: one.choose(ticket(name), {}) for name in "abcdefghijklmnop"}
    assert homes == {name: other.choose(ticket(name), {}) for name in homes}
    assert set(homes.values()) == {"a", "b"}, "homes are spread"


def test_a_cold_adapter_leaves_home_only_for_a_much_shorter_line():
    affinity = two()
    home = affinity.choose(ticket("x"), {})
    away = "b" if home == "a" else "a"
    assert affinity.choose(ticket("x"), {home: int(AWAY_ROWS) - 1}) == home
    assert affinity.choose(ticket("x"), {home: int(AWAY_ROWS) + 1}) == away


def test_most_adapters_keep_their_home_when_a_replica_joins():
    affinity = Affinity(Clock())
    names = [f"n{i}" for i in range(60)]
    affinity.observe({replica: held(replica) for replica in "ab"})
    before = {name: affinity.choose(ticket(name), {}) for name in names}
    affinity.observe({replica: held(replica) for replica in "abc"})
    after = {name: affinity.choose(ticket(name), {}) for name in names}
    moved = [name for name in names if after[name] != before[name]]
    assert moved
    assert {after[name] for name in moved} == {"c"}, "only the newcomer takes homes"


def test_what_was_sent_for_counts_as_held_until_the_replica_should_have_said_so():
    clock = Clock()
    affinity = two(clock=clock)
    home = affinity.choose(ticket("x"), {})
    away = "b" if home == "a" else "a"
    affinity.expect(away, ticket("x"))
    assert affinity.choose(ticket("x"), {}) == away
    affinity.observe({"a": held("a"), "b": held("b")})
    assert affinity.choose(ticket("x"), {}) == away, "an older word does not undo it"
    clock.now = EXPECTED_S + 1
    assert affinity.choose(ticket("x"), {}) == home


def test_the_bare_backbone_is_spread_over_all_replicas():
    affinity = two()
    assert {affinity.choose(ticket(ident=f"t{i}"), {}) for i in range(20)} == {"a", "b"}
    assert affinity.choose(ticket(), {"a": 1}) == "b"


def test_a_lost_replica_is_not_chosen_until_it_is_seen_again():
    affinity = two(a=("x",))
    affinity.lose("a")
    assert affinity.replicas == ("b",)
    assert affinity.choose(ticket("x"), {}) == "b"
    affinity.observe({"a": held("a", "x"), "b": held("b")})
    assert affinity.choose(ticket("x"), {}) == "a"


def test_a_replica_that_failed_the_ticket_is_taken_only_when_alone():
    affinity = two(a=("x",))
    assert affinity.choose(ticket("x"), {}, avoid=["a"]) == "b"
    affinity.lose("b")
    assert affinity.choose(ticket("x"), {}, avoid=["a"]) == "a"


def test_a_replica_that_is_not_warm_is_taken_only_when_no_warm_one_lives():
    affinity = Affinity(Clock())
    affinity.observe({"a": held("a", "x", warm=False), "b": held("b")})
    assert affinity.choose(ticket("x"), {"b": 1000}) == "b", "however long the line and whatever it holds"
    assert affinity.choose(ticket("x"), {}, avoid=["b"]) == "a", "but before a replica that failed the ticket"
    affinity.lose("b")
    assert affinity.choose(ticket("x"), {}) == "a"
    affinity.observe({"a": held("a", "x"), "b": held("b")})
    assert affinity.choose(ticket("x"), {}) == "a", "warm by now"


def test_without_replicas_there_is_no_choice():
    assert Affinity(Clock()).choose(ticket("x"), {}) is None
