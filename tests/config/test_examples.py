"""The examples that come with the schema: each becomes the objective that its comment promises, and hostile edits of
them are refused and never crash.
"""

from __future__ import annotations

import re
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config.bundle import make_bundle
from stream.config.exclusion import DEFAULT_WITHOUT
from stream.config.openslo import load_configuration, read_configuration
from stream.core.columns import Kind
from stream.core.slo.burn_rate import RuleKind, Severity
from stream.core.slo.spec import (
    BudgetingMethod,
    Comparison,
    EmptySlice,
    Objective,
    RawRatio,
    Settings,
    Slices,
    SliSignal,
    Source,
    Threshold,
    decode_bundle,
)
from tests.config.reading import NOW_NS

EXAMPLES = Path(__file__).parents[2] / "schemas/config/examples"
SERVERS = (Kind.SERVER,)
DAY = 1440
NOT_BY_ROUTE = tuple((key, values) for key, values in DEFAULT_WITHOUT if key != "http.route")
"""What an objective that names its routes leaves out."""


def number(op: Comparison, value: str, attribute: str | None = None) -> dict[str, Any]:
    return {"threshold": Threshold(op=op, value=value, attribute=attribute)}


def event(name: str, **fields: Any) -> dict[str, Any]:
    return {"signal": SliSignal.LOGS, "kinds": (), "event": name, **fields}


def metric(name: str, **fields: Any) -> dict[str, Any]:
    return {"signal": SliSignal.METRICS, "kinds": (), "metric": name, **fields}


def bad(key: str, *values: str) -> dict[str, Any]:
    return {"bad_attributes": ((key, values),)}


def good(key: str, *values: str) -> dict[str, Any]:
    return {"good_attributes": ((key, values),)}


LTE = Comparison.LTE
TABLE: dict[str, dict[str, Any]] = {
    "auth-failures": {
        "target": "0.95",
        "kinds": SERVERS,
        "attributes": (("http.route", ("/login", "/token")),),
        "without": NOT_BY_ROUTE,
        **bad("http.response.status_code", "401", "403"),
    },
    "availability": {"target": "0.999"},
    "burn-rate-alerts": {"target": "0.999"},
    "busy-and-quiet": {"target": "0.999", "method": BudgetingMethod.RATIO_TIMESLICES, "slices": Slices(minutes=5)},
    "calendar-month": {"target": "0.995", "calendar": "1M@2026-01-01T00:00:00 Europe/Berlin"},
    "caller-availability": {
        "service": "production/shop/storefront",
        "target": "0.999",
        "kinds": (Kind.CLIENT,),
        "attributes": (("service.peer.name", ("checkout",)),),
    },
    "canary-delta": {"target": "0.999", "kinds": SERVERS},
    "canary-similarity": {"target": "0.95", "kinds": SERVERS, "duration_lte_ns": 300_000_000},
    "certification-latency": {
        "service": "production/shop/qma",
        "target": "0.95",
        "certified": False,
        **metric("qma_certification_seconds", **number(LTE, "21600")),
    },
    "cohorts": {"target": "0.999"},
    "cold-starts": {"target": "0.99", **bad("faas.coldstart", "true")},
    "collector-delivery": {
        "service": "production/shop/otel-collector",
        "target": "0.9999",
        **metric("otelcol_receiver_accepted_spans", good_metric="otelcol_exporter_sent_spans"),
    },
    "cost-per-request": {
        "target": "0.99",
        **event("billing.request", **number(LTE, "0.002", "billing.cost_usd")),
    },
    "divergence": {"target": "0.99999", **event("checksum.compared", **bad("checksum.equal", "false"))},
    "error-rate": {
        "target": "0.999",
        "kinds": SERVERS,
        **bad("http.response.status_code", "500", "501", "502", "503", "504"),
    },
    "error-rate-by-counters": {"target": "0.999", **metric("shop.orders", bad_metric="shop.orders.failed")},
    "evidence-completeness": {
        "service": "production/shop/qma",
        "target": "0.9999",
        "certified": False,
        **metric("qma_items_received_total", bad_metric="qma_items_rejected_total"),
    },
    "failover-time": {
        "target": "0.95",
        "window_minutes": 90 * DAY,
        **event("failover.completed", **number(LTE, "60", "failover.duration_s")),
    },
    "false-alarms": {
        "target": "0.9",
        "window_minutes": 90 * DAY,
        **event("alert.acknowledged", **bad("alert.verdict", "false_positive")),
    },
    "freshness": {
        "service": "production/shop/orders-pipeline",
        "target": "0.99",
        **event("pipeline.loaded", **number(LTE, "300", "pipeline.freshness_s")),
    },
    "instance-divergence": {"target": "0.999", "kinds": SERVERS},
    "latency-p95": {"target": "0.95", "kinds": SERVERS, "duration_lte_ns": 200_000_000},
    "latency-p99": {
        "target": "0.99",
        "kinds": SERVERS,
        "duration_lte_ns": 500_000_000,
        "method": BudgetingMethod.TIMESLICES,
        "slices": Slices(minutes=1, target="0.99", events_min=20),
    },
    "lost-spans": {
        "target": "0.999",
        "kinds": SERVERS,
        "lost_by": ("collector-send-failures", "collector-queue-full"),
    },
    "missing-requests": {
        "target": "0.999",
        "kinds": SERVERS,
        "expected_from": "missing-requests-metric",
        "expected_tolerance": "0.005",
    },
    "ml-accuracy": {
        "service": "production/shop/recommender",
        "target": "0.92",
        **event("ml.labelled", **good("ml.prediction.correct", "true")),
    },
    "packet-loss": {
        "target": "0.9999",
        **metric("system.network.packets", bad_metric="system.network.dropped"),
        "without": (("device", ("lo",)),),
    },
    "planned-exclusion": {"target": "0.999"},
    "pod-restarts": {
        "target": "0.99",
        "signal": SliSignal.LOGS,
        "kinds": (),
        "attributes": (("k8s.object.kind", ("Pod",)),),
        **bad("k8s.event.reason", "BackOff", "Evicted", "Unhealthy"),
    },
    "policy-violations": {"target": "0.999", **event("policy.decision", **bad("policy.decision", "deny"))},
    "rare-failures": {"target": "0.99999"},
    "readiness": {
        "target": "0.999",
        "method": BudgetingMethod.TIMESLICES,
        "slices": Slices(minutes=1, target="0.95", empty=EmptySlice.BAD),
        **metric("k8s.container.ready", raw=RawRatio.SUCCESS),
    },
    "replica-lag": {
        "service": "production/shop/orders-db",
        "target": "0.995",
        **metric("postgresql.wal.delay", **number(LTE, "5")),
        "attributes": (("operation", ("replay",)),),
    },
    "retries": {
        "target": "0.99",
        "kinds": (Kind.CLIENT,),
        **bad("http.request.resend_count", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"),
    },
    "round-trip-time": {"target": "0.99", **metric("probe_duration_seconds", **number(LTE, "0.05"))},
    "routes-and-versions": {
        "target": "0.99",
        "kinds": SERVERS,
        "attributes": (("http.route", ("/orders", "/orders/{id}")),),
        "without": (
            ("http.request.method", ("HEAD", "OPTIONS")),
            *NOT_BY_ROUTE,
        ),
        "versions": ("1.10", "1.11"),
        "duration_lte_ns": 300_000_000,
    },
    "sampling-consistency": {
        "target": "0.99",
        "kinds": SERVERS,
        "expected_from": "sampling-consistency-metric",
        "expected_tolerance": "0.01",
        "certified": False,
    },
    "saturation": {
        "target": "0.99",
        **metric("k8s.container.cpu_limit_utilization", **number(Comparison.LT, "0.7")),
    },
    "schema-validity": {
        "service": "production/shop/orders-pipeline",
        "target": "0.9999",
        **event("record.validated", **good("record.valid", "true")),
    },
    "telemetry-completeness": {
        "service": "production/shop/otel-collector",
        "target": "0.9999",
        **metric("otelcol_receiver_accepted_spans", bad_metric="otelcol_exporter_send_failed_spans"),
    },
    "throttling": {"target": "0.995", "kinds": SERVERS, **bad("http.response.status_code", "429")},
    "time-to-detect": {
        "target": "0.9",
        "window_minutes": 90 * DAY,
        **event("incident.detected", **number(LTE, "300", "incident.time_to_detect_s")),
    },
    "time-to-recover": {
        "target": "0.9",
        "window_minutes": 90 * DAY,
        **event("incident.resolved", **number(LTE, "1800", "incident.time_to_recover_s")),
    },
    "traffic-floor": {"target": "0.999", "kinds": SERVERS, "floor_per_hour": 600},
    "traffic-shift": {
        "target": "0.99",
        "kinds": SERVERS,
        "method": BudgetingMethod.TIMESLICES,
        "slices": Slices(minutes=5, target="0.4", events_min=100),
        "certified": False,
        **good("cloud.region", "eu-central-1"),
    },
}
OVER_OTHERS = ("composite", "coverage")
"""Their objectives are over others, which come first."""

COHORTS = {"cohorts": 3, "canary-delta": 2, "canary-similarity": 2, "instance-divergence": 1}
SECOND_SLOS = {
    "collector-delivery": 1,
    "evidence-completeness": 1,
    "lost-spans": 2,
    "missing-requests": 1,
    "sampling-consistency": 2,
    "traffic-shift": 1,
}
MORE = sum((*COHORTS.values(), *SECOND_SLOS.values())) + 16 + 7
"""Objectives beside the first of each file, and of those over others."""

ODD_VALUES = (
    "[]",
    "{}",
    "",
    "~",
    "1",
    "-1e99",
    "true",
    "x",
    '""',
    "*a",
    "[[1]]",
    "{x: 1}",
    '"\\u0000"',
    "9" * 70,
    "- x",
)


def test_every_example_is_in_the_table_and_can_be_applied_together() -> None:
    files = sorted(EXAMPLES.iterdir())
    assert {file.stem for file in files} == {*TABLE, *OVER_OTHERS}
    configuration = load_configuration(files, now_ns=NOW_NS)
    assert len(configuration.objectives) == len(TABLE) + MORE
    bundle = make_bundle(
        configuration.objectives,
        previous=None,
        pipeline="qma",
        generation="1",
        partitions=4,
        prefix="qma.",
        sources=[Source(topic=signal, encoding="auto", signal=signal) for signal in ("traces", "metrics", "logs")],
        settings=Settings(),
        calendars=configuration.calendars,
        adjustments=configuration.adjustments,
        mutes=configuration.mutes,
    )
    assert decode_bundle(bundle.encode()) == bundle


@pytest.mark.parametrize("name", sorted(TABLE))
def test_an_example_becomes_this_objective(name: str) -> None:
    first, *_ = load_configuration([EXAMPLES / f"{name}.yaml"], now_ns=NOW_NS).objectives
    expected: dict[str, Any] = {"service": "production/shop/checkout", "window_minutes": 30 * DAY, **TABLE[name]}
    if expected.get("signal", SliSignal.SPANS) is SliSignal.SPANS:
        expected.setdefault("without", DEFAULT_WITHOUT)
    assert first == Objective(name=name, alerting=first.alerting, **expected)


def test_what_the_metric_and_the_sampled_spans_expect_of_each_other() -> None:
    configuration = load_configuration([EXAMPLES / "sampling-consistency.yaml"], now_ns=NOW_NS)
    assert [(o.name, o.signal, o.expected_from) for o in configuration.objectives] == [
        ("sampling-consistency", SliSignal.SPANS, "sampling-consistency-metric"),
        ("sampling-consistency-metric", SliSignal.METRICS, None),
        ("sampling-consistency-excess", SliSignal.METRICS, "sampling-consistency"),
    ]


def test_the_example_of_shifting_traffic_has_a_bound_on_either_side() -> None:
    least, most = load_configuration([EXAMPLES / "traffic-shift.yaml"], now_ns=NOW_NS).objectives
    assert (least.good_attributes, most.bad_attributes) == ((("cloud.region", ("eu-central-1",)),),) * 2
    assert least.slices == most.slices


def test_the_example_with_cohorts_divides_by_tier() -> None:
    objectives = load_configuration([EXAMPLES / "cohorts.yaml"], now_ns=NOW_NS).objectives
    assert [objective.cohort for objective in objectives] == [
        "",
        "customer.tier=gold",
        "customer.tier=silver",
        "customer.tier=__other__",
    ]


def test_the_example_of_diverging_instances_finds_pods_and_opens_a_ticket_for_one_alone() -> None:
    whole, finder = load_configuration([EXAMPLES / "instance-divergence.yaml"], now_ns=NOW_NS).objectives
    assert (whole.finds, finder.finds) == ("", "k8s.pod.name")
    assert [(rule.kind, rule.gap_max) for rule in finder.alerting.rules] == [(RuleKind.COHORT_GAP, Fraction("0.005"))]


def test_the_example_with_policies_pages_at_14_4_times_and_tickets_at_2_times() -> None:
    (objective,) = load_configuration([EXAMPLES / "burn-rate-alerts.yaml"], now_ns=NOW_NS).objectives
    alerting = objective.alerting
    assert [(r.name, r.kind, r.severity, r.fixed_factor, r.long_minutes, r.short_minutes) for r in alerting.rules] == [
        ("fast-burn", RuleKind.BURN_RATE, Severity.PAGE, Fraction("14.4"), 60, 5),
        ("escalate", RuleKind.BURN_RATE, Severity.TICKET, Fraction(2), DAY, 120),
        ("page-no-data", RuleKind.NO_DATA, Severity.PAGE, None, 60, 60),
    ]
    assert (alerting.targets, alerting.deploy_mute_minutes) == (("on-call",), 15)
    assert alerting.runbook == "https://wiki.example.com/checkout/runbook"


def test_the_example_with_declarations_leaves_out_two_hours_and_mutes_three() -> None:
    configuration = load_configuration([EXAMPLES / "planned-exclusion.yaml"], now_ns=NOW_NS)
    (adjustment,), (mute,) = configuration.adjustments, configuration.mutes
    assert (adjustment.objectives, adjustment.end_minute - adjustment.start_minute) == (("planned-exclusion",), 120)
    assert (mute.services, mute.end_minute - mute.start_minute) == (("production/shop/checkout",), 180)
    assert mute.start_minute == adjustment.start_minute


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_an_edit_of_an_example_is_read_or_refused_with_a_place(data: st.DataObject) -> None:
    path = EXAMPLES / f"{data.draw(st.sampled_from(sorted((*TABLE, *OVER_OTHERS))))}.yaml"
    lines = path.read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key = re.match(r"( *-? ?[^:#]+: )", lines[at])
        edit = data.draw(st.sampled_from((*ODD_VALUES, None)))
        lines[at] = (key[1] if key else "") + edit if edit is not None else ""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("\n".join(lines))
        file.flush()
        configuration, problems = read_configuration([Path(file.name)], now_ns=NOW_NS)
    assert configuration.objectives or problems
    assert all(0 < problem.position.line <= len(lines) + 1 for problem in problems)
