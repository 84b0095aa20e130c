"""What counts: routes, versions, what is left out by default and on request, and cohorts."""

from __future__ import annotations

import pytest

from stream.config.exclusion import DEFAULT_WITHOUT, HEALTH_ROUTES
from stream.core.slo.burn_rate import DEFAULT_RULES
from stream.core.slo.spec import Bundle, Settings, decode_bundle
from tests.config.reading import loaded, only, ratio, read, slo

LOGS = "signal: logs"
TRAFFIC = ("qma.traffic", ("health", "shadow", "synthetic"))
BOTS = ("user_agent.synthetic.type", ("bot", "test"))
GRPC_HEALTH = ("rpc.service", ("grpc.health.v1.Health",))


def test_spans_leave_out_health_checks_synthetic_and_shadow_traffic() -> None:
    # user_agent.synthetic.type: OpenTelemetry semantic conventions; grpc.health.v1: gRPC health checking protocol.
    assert only(slo()).without == DEFAULT_WITHOUT
    assert DEFAULT_WITHOUT == (("http.route", HEALTH_ROUTES), TRAFFIC, GRPC_HEALTH, BOTS)
    assert {"/healthz", "/livez", "/readyz", "/health", "/ping", "/-/healthy"} <= set(HEALTH_ROUTES)


@pytest.mark.parametrize("fields", [LOGS, "signal: metrics, metric: requests"])
def test_logs_and_metrics_leave_nothing_out(fields: str) -> None:
    assert only(slo(ratio(fields))).without == ()


@pytest.mark.parametrize(
    ("fields", "without"),
    [
        ("exclude: none", ()),
        ("exclude: [shadow]", (("qma.traffic", ("shadow",)),)),
        ("exclude: [shadow, synthetic]", (("qma.traffic", ("shadow", "synthetic")), BOTS)),
        (
            "exclude: none, without: {http.request.method: [OPTIONS, HEAD], tier: gold}",
            (("http.request.method", ("HEAD", "OPTIONS")), ("tier", ("gold",))),
        ),
        (
            "exclude: [shadow], without: {qma.traffic: replay}",
            (("qma.traffic", ("replay", "shadow")),),
        ),
        (f"{LOGS}, exclude: [synthetic]", (("qma.traffic", ("synthetic",)), BOTS)),
        (f"{LOGS}, without: {{http.route: /metrics}}", (("http.route", ("/metrics",)),)),
    ],
)
def test_what_is_left_out_on_request(fields: str, without: object) -> None:
    assert only(slo(ratio(fields))).without == without


def test_who_asks_for_health_checks_gets_them() -> None:
    objective = only(slo(ratio("routes: [/healthz]")))
    assert objective.attributes == (("http.route", ("/healthz",)),)
    assert objective.without == (TRAFFIC, GRPC_HEALTH, BOTS)


def test_routes_are_the_attribute_http_route() -> None:
    routes = only(slo(ratio("routes: [/cart, /], attributes: {tier: gold}")))
    attributes = only(slo(ratio("attributes: {http.route: [/, /cart], tier: gold}")))
    assert routes == attributes
    assert routes.attributes == (("http.route", ("/", "/cart")), ("tier", ("gold",)))


def test_a_star_stands_for_any_value_and_its_negation_for_none() -> None:
    objective = only(slo(ratio('attributes: {a: "*", b: "!*", c: [x, "!*"]}, without: {d: "*"}, exclude: none')))
    assert objective.attributes == (("a", ("*",)), ("b", ("!*",)), ("c", ("!*", "x")))
    assert objective.without == (("d", ("*",)),)
    assert only(slo(ratio(rule='bad: {attributes: {error.type: "*"}}', part="bad"))).bad_attributes == (
        ("error.type", ("*",)),
    )


def test_who_asks_for_any_route_does_not_ask_for_health_checks() -> None:
    assert only(slo(ratio('attributes: {http.route: "*"}'))).without == DEFAULT_WITHOUT
    assert only(slo(ratio('attributes: {http.route: "!*"}'))).without == (TRAFFIC, GRPC_HEALTH, BOTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('attributes: {a: ["*", gold]}', "has `*`, which is any value, beside others; write it alone"),
        ('versions: ["*"]', "`*` stands for no version; remove it, or name one"),
        ('routes: [/cart, "!*"]', "`!*` stands for no route; remove it, or name one"),
        ('cohorts: {a: ["*", gold]}', "has `*`, which is any value, beside others; write it alone"),
        ('attributes: {a: "*"}, cohorts: {a: "*"}', "divides by `a`, which is selected already; remove it from one"),
        ('attributes: {a: gold}, without: {a: "*"}', "leaves out all that `attributes` selects by `a`"),
        ('attributes: {a: "!*"}, without: {a: ["!*", gold]}', "leaves out all that `attributes` selects by `a`"),
    ],
)
def test_what_a_star_cannot_be(fields: str, message: str) -> None:
    _, problems = read(slo(ratio(fields)))
    assert [problem.message.partition(message)[1] for problem in problems if not problem.is_warning] == [message] * 2


@pytest.mark.parametrize("values", ['"!*"', '[gold, "!*"]'])
def test_what_has_a_value_can_be_kept_where_what_has_none_is_left_out(values: str) -> None:
    objective = only(slo(ratio(f'attributes: {{a: "*"}}, without: {{a: {values}}}')))
    assert dict(objective.without)["a"] == tuple(sorted({"!*", "gold"} if "gold" in values else {"!*"}))


def test_versions_are_texts() -> None:
    assert only(slo(ratio('versions: ["1.10", "1.9", v2]'))).versions == ("1.10", "1.9", "v2")


def test_cohorts_become_objectives_with_the_targets_of_the_whole() -> None:
    objectives = loaded(slo(ratio("exclude: none, cohorts: {customer.tier: [silver, gold plus]}"))).objectives
    assert [(o.name, o.cohort, o.cohort_of, o.attributes, o.without) for o in objectives] == [
        ("slo", "", "", (), ()),
        ("slo@gold%20plus", "customer.tier=gold plus", "slo", (("customer.tier", ("gold plus",)),), ()),
        ("slo@silver", "customer.tier=silver", "slo", (("customer.tier", ("silver",)),), ()),
        ("slo@__other__", "customer.tier=__other__", "slo", (), (("customer.tier", ("gold plus", "silver")),)),
    ]
    assert len({(o.target, o.window_minutes, o.service, o.alerting) for o in objectives}) == 1


def test_any_value_makes_one_objective_that_finds_the_others() -> None:
    configuration = loaded(
        slo(ratio('exclude: none, cohorts: {k8s.pod.name: "*"}'), annotations='qma/cohort-gap-max: "1%"')
    )
    whole, finder = configuration.objectives
    assert (finder.name, finder.cohort, finder.cohort_of, finder.finds) == (
        "slo@__other__",
        "k8s.pod.name=__other__",
        "slo",
        "k8s.pod.name",
    )
    assert (finder.attributes, finder.without, finder.certified, finder.is_found) == ((), (), False, False)
    assert [rule.name for rule in finder.alerting.rules] == ["ticket-cohort-gap"]
    assert whole.alerting.rules == DEFAULT_RULES
    bundle = Bundle(
        pipeline="p", generation="1", partitions=1, sources=(), objectives=configuration.objectives, settings=Settings()
    )
    assert bundle.attributes == ("k8s.pod.name",)
    assert decode_bundle(bundle.encode()) == bundle


def test_each_objective_of_an_slo_has_its_own_cohorts() -> None:
    targets = "{displayName: Promise, target: 0.9}, {displayName: Goal, target: 0.99}"
    objectives = loaded(slo(ratio("cohorts: {tier: gold}"), targets)).objectives
    assert [(o.name, o.target, o.cohort_of) for o in objectives] == [
        ("slo/promise", "0.9", ""),
        ("slo/promise@gold", "0.9", "slo/promise"),
        ("slo/promise@__other__", "0.9", "slo/promise"),
        ("slo/goal", "0.99", ""),
        ("slo/goal@gold", "0.99", "slo/goal"),
        ("slo/goal@__other__", "0.99", "slo/goal"),
    ]


def test_the_rest_of_routes_is_still_without_health_checks() -> None:
    other = loaded(slo(ratio("cohorts: {http.route: [/cart]}"))).objectives[-1]
    assert dict(other.without)["http.route"] == tuple(sorted((*HEALTH_ROUTES, "/cart")))
