"""Objectives over others: composites by name, OpenSLO's own form, and inventories of what must be seen."""

from __future__ import annotations

import pytest

from stream.config.bundle import make_bundle
from stream.config.openslo import Configuration
from stream.config.problems import Problem
from stream.config.sources import own_indicators
from stream.core.columns import Kind
from stream.core.errors import ConfigError
from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import Severity
from stream.core.slo.composite import Call, Component, Composite, Missing
from stream.core.slo.spec import (
    BudgetingMethod,
    Bundle,
    Objective,
    Settings,
    Slices,
    SliSignal,
    Source,
    decode_bundle,
)
from tests.config.reading import ROLLING, document, ratio, read

DAY = 1440
SPANS = Source(topic="otlp_spans", encoding="otlp_proto")
SLI = document("SLI", "requests", f"{{{ratio()}}}")


def slo(name: str, service: str | None = None, *, objectives: str = "{target: 0.99}", annotations: str = "") -> str:
    spec = (
        f"{{service: {service or name}, indicatorRef: requests, timeWindow: [{ROLLING}], "
        f"budgetingMethod: Occurrences, objectives: [{objectives}]}}"
    )
    return document("SLO", name, spec, annotations=annotations)


def composite(components: str, fields: str = "", *, target: str = "target: 0.98", annotations: str = "") -> str:
    spec = (
        f"{{service: shop, environment: production, components: [{components}], {target}, timeWindow: [{ROLLING}]"
        f"{', ' if fields else ''}{fields}}}"
    )
    return document("Composite", "shop", spec, version="qma/v1", annotations=annotations)


def inventory(services: str, fields: str = "") -> str:
    spec = (
        f"{{service: coverage, environment: production, services: [{services}], target: 0.9, "
        f"timeWindow: [{ROLLING}]{', ' if fields else ''}{fields}}}"
    )
    return document("Inventory", "coverage", spec, version="qma/v1")


def last_of(*documents: str) -> Objective:
    configuration, problems = read(*documents)
    assert not [problem for problem in problems if not problem.is_warning]
    return configuration.objectives[-1]


def messages(problems: list[Problem]) -> list[str]:
    return [problem.message for problem in problems]


def applied(configuration: Configuration, *sources: Source, prefix: str = "qma.") -> Bundle:
    return make_bundle(
        configuration.objectives,
        previous=None,
        pipeline="qma",
        generation="1",
        partitions=4,
        prefix=prefix,
        sources=sources or (SPANS,),
        settings=Settings(),
        calendars=configuration.calendars,
    )


def test_a_composite_is_an_objective_over_the_named_ones() -> None:
    parts = "{slo: checkout, weight: 3.50}, {slo: search/fast}"
    fast = slo("search", objectives="{displayName: fast, target: 0.9}, {displayName: all, target: 0.99}")
    made = last_of(SLI, slo("checkout"), fast, composite(parts, "missing: bad, namespace: web"))
    assert made == Objective(
        service="production/web/shop",
        name="shop",
        target="0.98",
        window_minutes=30 * DAY,
        kinds=(),
        signal=SliSignal.INDICATORS,
        certified=False,
        composite=Composite(
            components=(
                Component(service="production/-/checkout", objective="checkout", weight="3.5"),
                Component(service="production/-/search", objective="search/fast"),
            ),
            missing=Missing.BAD,
        ),
    )


def test_a_composite_of_slices_and_with_links() -> None:
    fields = "budgetingMethod: Timeslices, timeSliceTarget: 0.9, timeSliceWindow: 5m"
    annotations = 'qma/runbook: "https://example.com/shop", qma/slice-events-min: "3"'
    made = last_of(
        SLI, slo("checkout"), composite("{slo: checkout}", fields, target="targetPercent: 99", annotations=annotations)
    )
    assert (made.method, made.target) == (BudgetingMethod.TIMESLICES, "0.99")
    assert made.slices == Slices(minutes=5, target="0.9", events_min=3)
    assert made.alerting == Alerting(runbook="https://example.com/shop")


def test_calls_are_counted_by_cohorts_of_client_spans_that_nobody_is_called_for() -> None:
    configuration, _ = read(
        SLI,
        slo("checkout"),
        slo("search"),
        composite("{slo: checkout}, {slo: search}", "calls: {attribute: peer.name}"),
    )
    *_, whole = configuration.objectives
    assert whole.composite is not None
    assert whole.composite.calls == (
        Call(
            caller="production/-/checkout",
            callee="production/-/search",
            objective="shop/calls-of-checkout@search",
        ),
        Call(
            caller="production/-/search",
            callee="production/-/checkout",
            objective="shop/calls-of-search@checkout",
        ),
    )
    by_name = {objective.name: objective for objective in configuration.objectives}
    edge = by_name["shop/calls-of-checkout@search"]
    assert (edge.service, edge.kinds, edge.attributes) == (
        "production/-/checkout",
        (Kind.CLIENT,),
        (("peer.name", ("search",)),),
    )
    assert (edge.cohort, edge.cohort_of) == ("peer.name=search", "shop/calls-of-checkout")
    assert "shop/calls-of-checkout@__other__" in by_name
    counting = [objective for objective in configuration.objectives if "calls-of" in objective.name]
    assert len(counting) == 6
    assert all(not one.certified and one.alerting == Alerting(rules=()) for one in counting)


def test_two_services_of_one_name_cannot_be_told_apart_by_calls() -> None:
    other = document("SLI", "other", f"{{{ratio()}}}").replace("production", "staging")
    staging = slo("checkout-2", "checkout").replace("indicatorRef: requests", "indicatorRef: other")
    components = "{slo: checkout}, {slo: checkout-2}, {slo: search}"
    _, problems = read(
        SLI, other, slo("checkout"), staging, slo("search"), composite(components, "calls: {attribute: peer.service}")
    )
    (message,) = messages([problem for problem in problems if not problem.is_warning])
    assert message.startswith("cannot tell production/-/checkout from staging/-/checkout")


def test_objectives_with_indicators_of_their_own_make_a_composite() -> None:
    objectives = (
        "{displayName: Pay, target: 0.99, indicatorRef: requests, compositeWeight: 2}, "
        f"{{target: 0.9, indicator: {{spec: {{{ratio('service: search')}}}}}}}"
    )
    whole = slo("shop", objectives=objectives, annotations='qma/composite-target: ".95"').replace(
        "indicatorRef: requests, timeWindow", "timeWindow"
    )
    configuration, problems = read(SLI, whole)
    assert not [problem for problem in problems if not problem.is_warning]
    pay, find, shop = configuration.objectives
    assert [(one.service, one.name, one.target) for one in (pay, find)] == [
        ("production/-/shop", "shop/pay", "0.99"),
        ("production/-/search", "shop/1", "0.9"),
    ]
    assert (shop.service, shop.name, shop.target, shop.method) == (
        "production/-/shop",
        "shop",
        "0.95",
        BudgetingMethod.OCCURRENCES,
    )
    assert shop.composite == Composite(
        components=(
            Component(service="production/-/shop", objective="shop/pay", weight="2"),
            Component(service="production/-/search", objective="shop/1"),
        )
    )


def test_an_inventory_asks_how_much_of_what_is_declared_was_seen() -> None:
    services = (
        "{service: search}, {service: orders, environment: data, namespace: batch}, "
        "{service: checkout, spans: [{kinds: [server], route: /cart}, {attributes: {rpc.method: [Pay, Refund]}}]}"
    )
    configuration, problems = read(inventory(services, "within: 6h"))
    assert problems == []
    *parts, whole = configuration.objectives
    every = tuple(sorted(Kind))
    assert [(part.service, part.name, part.kinds, part.attributes) for part in parts] == [
        ("production/-/search", "coverage/search", every, ()),
        ("data/batch/orders", "coverage/orders", every, ()),
        ("production/-/checkout", "coverage/checkout-cart", (Kind.SERVER,), (("http.route", ("/cart",)),)),
        ("production/-/checkout", "coverage/checkout-pay-refund", every, (("rpc.method", ("Pay", "Refund")),)),
    ]
    assert all(part.without == () and not part.certified and not part.alerting.rules for part in parts)
    assert whole.composite is not None
    assert whole.composite.seen_minutes == 360
    assert [c.name for c in whole.composite.components] == [f"{part.service}/{part.name}" for part in parts]
    assert {rule.severity for rule in whole.alerting.rules} == {Severity.TICKET}
    assert (whole.service, whole.target, whole.certified) == ("production/-/coverage", "0.9", False)


def test_names_of_parts_that_read_alike_are_numbered() -> None:
    spans = "spans: [{route: /cart/}, {route: /cart}]"
    configuration, _ = read(inventory(f"{{service: checkout, {spans}}}"))
    assert [one.name for one in configuration.objectives] == [
        "coverage/checkout-cart",
        "coverage/checkout-cart-2",
        "coverage",
    ]


def test_a_target_that_components_may_miss_together_is_doubtful() -> None:
    components = "{slo: checkout, weight: 3}, {slo: search}"
    documents = (SLI, slo("checkout"), slo("search", objectives="{target: 0.9}"))

    def warned(target: str) -> list[str]:
        _, problems = read(*documents, composite(components, target=target))
        return [text for text in messages(problems) if "every component" in text]

    # (3 × 0.99 + 0.9) ÷ 4
    assert warned("target: 0.9675") == []
    assert warned("target: 0.9676") == [
        "where every component just meets its own target this is 0.9675, and so missed; "
        "write that or less, or ask more of the components"
    ]


def test_what_was_made_for_a_composite_counts_for_no_advice() -> None:
    _, problems = read(
        SLI,
        slo("checkout"),
        slo("search"),
        composite("{slo: checkout}, {slo: search}", "calls: {attribute: peer.service}"),
    )
    counts = [text for text in messages(problems) if "are recommended" in text]
    assert [text.split(" has ")[1].partition(",")[0] for text in counts] == ["1 SLI", "1 SLI"]


def test_composites_read_our_own_indicators_and_nothing_else_does() -> None:
    with_one, _ = read(SLI, slo("checkout"), composite("{slo: checkout}"))
    without, _ = read(SLI, slo("checkout"))
    bundle = applied(with_one, prefix="shop.")
    assert bundle.sources == (SPANS, own_indicators("shop."))
    assert [source.is_telemetry for source in bundle.sources] == [True, False]
    assert own_indicators("shop.") == Source(topic="shop.sli", encoding="sli", signal="indicators")
    assert decode_bundle(bundle.encode()) == bundle
    assert applied(without).sources == (SPANS,)


@pytest.mark.parametrize(
    "source",
    [
        Source(topic="qma.sli", encoding="otlp_proto"),
        Source(topic="other.sli", encoding="sli", signal="indicators"),
        Source(topic="other.sli", encoding="auto", signal="indicators"),
        Source(topic="events", encoding="sli", signal="events"),
    ],
)
def test_our_own_indicators_cannot_be_named_as_a_source(source: Source) -> None:
    configuration, _ = read(SLI, slo("checkout"))
    with pytest.raises(ConfigError, match=r"cannot be named: the indicators in qma\.sli are read by themselves"):
        applied(configuration, SPANS, source)


def test_what_is_muted_for_a_composite_is_not_muted_for_its_components() -> None:
    spec = "{description: work, services: [shop, coverage], startTime: 2026-11-22T10:00:00Z, duration: 2h}"
    muted = document("Maintenance", "work", spec, version="qma/v1")
    calls = composite("{slo: checkout}, {slo: search}", "calls: {attribute: peer.service}")
    configuration, _ = read(SLI, slo("checkout"), slo("search"), calls, inventory("{service: orders}"), muted)
    assert [mute.services for mute in configuration.mutes] == [("production/-/coverage", "production/-/shop")]


def test_planned_work_on_a_service_is_also_that_of_composites_of_its_name() -> None:
    spec = "{description: work, service: shop, startTime: 2026-11-22T10:00:00Z, duration: 2h}"
    adjustment = document("BudgetAdjustment", "work", spec, version="qma/v1")
    configuration, _ = read(SLI, slo("checkout"), composite("{slo: checkout}"), adjustment)
    assert [one.objectives for one in configuration.adjustments] == [("shop",)]
