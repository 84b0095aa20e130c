"""Shared causes: whoever fails together is grouped under the deepest failing service that all of them call."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from stream.core.slo.shared_cause import CAUSES_MAX, Edge, shared_causes, told

ALLOWED = Fraction(1, 100)


def key(name: str) -> str:
    return f"prod/shop/{name}"


def edge(caller: str, callee: str, calls: int = 100, failed: int = 50) -> Edge:
    return Edge(caller=key(caller), callee=key(callee), calls=calls, failed_calls=failed)


def causes(burning: str, *edges: Edge) -> dict[str, tuple[str, ...]]:
    """Returns who is affected by each cause, without the rest of the keys."""
    found = shared_causes([key(name) for name in burning.split()], edges, ALLOWED)
    return {c.service.rpartition("/")[2]: tuple(a.rpartition("/")[2] for a in c.affects) for c in found}


def test_all_that_fail_with_one_service_are_grouped_under_the_deepest():
    edges = (edge("checkout", "orders"), edge("orders", "payments"), edge("search", "payments"))
    assert causes("checkout orders payments search", *edges) == {"payments": ("checkout", "orders", "search")}
    assert causes("checkout orders search", *edges) == {"orders": ("checkout",)}, "payments does not burn"


def test_calls_that_fail_no_more_than_they_may_lead_nowhere():
    assert causes("a b", edge("a", "b", 100, 1)) == {}
    assert causes("a b", edge("a", "b", 100, 2)) == {"b": ("a",)}
    assert causes("a b", edge("a", "b", 100, 2), edge("a", "b", 100, 0)) == {}, "of the same pair they are summed"
    assert causes("a b") == {}
    assert causes("a b", edge("a", "a")) == {}


def test_services_that_call_each_other_in_a_circle_are_one():
    circle = (edge("a", "b", failed=10), edge("b", "c", failed=30), edge("c", "a", failed=20))
    assert causes("a b c", *circle) == {"c": ("a", "b")}
    assert causes("a b c d", *circle, edge("c", "d", failed=2)) == {"d": ("a", "b", "c")}


def test_where_the_way_parts_the_deepest_end_is_the_cause_then_the_one_with_most_failed_calls():
    edges = (edge("a", "b", failed=9), edge("a", "c", failed=50), edge("b", "d", failed=2))
    assert causes("a b c d", *edges) == {"d": ("a", "b")}
    assert causes("a b c", *edges) == {"c": ("a",)}
    assert causes("a b c", edge("a", "b"), edge("a", "c")) == {"b": ("a",)}, "in the order of names"


def test_it_is_told_in_plain_words():
    edges = (edge("checkout", "payments", 100, 65), edge("orders", "payments", 100, 28), edge("orders", "mail", 9, 7))
    found = shared_causes([key("checkout"), key("orders"), key("payments")], edges, ALLOWED)
    assert told(found) == (
        "checkout and orders fail with payments: 93% of their failed calls went to it or to one another."
    )
    assert told(shared_causes([key("orders"), key("payments")], edges[1:], ALLOWED)) == (
        "orders fails with payments: 80% of its failed calls went to it."
    )
    many = [edge(name, "z") for name in "abcde"]
    assert told(shared_causes([key(name) for name in "abcdez"], many, ALLOWED)).startswith("a, b, c and 2 others fail")
    twins = [Edge(caller=f"{env}/shop/a", callee=key("z"), calls=9, failed_calls=9) for env in ("prod", "test")]
    said = told(shared_causes([*(t.caller for t in twins), key("z")], twins, ALLOWED))
    assert said.startswith("prod/shop/a and test/shop/a fail with z")


names = st.integers(0, 11).map(lambda n: f"n{n:02}")
graphs = st.lists(st.builds(edge, names, names, st.just(100), st.integers(0, 100)), max_size=40)


@given(graphs, st.sets(names.map(key)), st.randoms(use_true_random=False))
def test_every_graph_has_causes_that_hold_what_they_say(edges, burning, random):
    found = shared_causes(burning, edges, ALLOWED)

    shuffled = list(edges)
    random.shuffle(shuffled)
    assert shared_causes(sorted(burning, reverse=True), shuffled, ALLOWED) == found, "the order decided"
    assert len(found) <= CAUSES_MAX
    affected = [service for cause in found for service in cause.affects]
    assert len(affected) == len(set(affected)), "a service has one cause"
    assert not {cause.service for cause in found} & set(affected), "a cause has none itself"
    assert {*affected, *(cause.service for cause in found)} <= burning
    for cause in found:
        group = {cause.service, *cause.affects}
        assert 0 < cause.failed_calls <= min(cause.calls, cause.failed_calls_to_any)
        for service in cause.affects:
            calls = [e for e in edges if e.caller == service and e.callee in group - {service}]
            assert any(e.failed_calls for e in calls), "what is affected calls the cause or another of the affected"
