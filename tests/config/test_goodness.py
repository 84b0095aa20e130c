"""What is good: by rules about bad events, by metrics of their own, by raw ratios and by thresholds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.slo.spec import Comparison, Objective, RawRatio, SliSignal, Threshold
from tests.config.reading import only, ratio, raw, slo, threshold

GAUGE = "signal: metrics, metric: queue.depth"
HISTOGRAM = "signal: metrics, metric: http.server.request.duration"
ORDERS = "signal: metrics, metric: orders"


def at_most_one_rule(objective: Objective) -> bool:
    rules = ("duration_lte_ns", "severity_lt", "threshold", "good_metric", "bad_metric", "raw")
    given = [getattr(objective, name) is not None for name in rules]
    return sum(given) + bool(objective.good_attributes) + bool(objective.bad_attributes) <= 1


def test_bad_by_attributes() -> None:
    objective = only(slo(ratio(rule="bad: {attributes: {http.response.status_code: [503, 500]}}", part="bad")))
    assert objective.bad_attributes == (("http.response.status_code", ("500", "503")),)
    assert at_most_one_rule(objective)


def test_bad_status_error_is_good_status_ok() -> None:
    assert only(slo(ratio(rule="bad: status_error", part="bad"))) == only(slo(ratio()))


@pytest.mark.parametrize("part", ["good", "bad"])
def test_a_metric_of_their_own(part: str) -> None:
    metrics = ratio("signal: metrics, metric: orders.some", "", part=part, total=ORDERS)
    objective = only(slo(metrics))
    assert (objective.signal, objective.metric, objective.kinds) == (SliSignal.METRICS, "orders", ())
    assert {"good": objective.good_metric, "bad": objective.bad_metric}[part] == "orders.some"
    assert at_most_one_rule(objective)


def test_metrics_of_the_same_events_share_their_attributes() -> None:
    part = "signal: metrics, metric: orders.failed, attributes: {tier: gold}"
    objective = only(slo(ratio(part, "", part="bad", total=f"{ORDERS}, attributes: {{tier: gold}}")))
    assert objective.attributes == (("tier", ("gold",)),)


@pytest.mark.parametrize("kind", list(RawRatio))
def test_raw_ratios(kind: RawRatio) -> None:
    objective = only(slo(raw(kind, "signal: metrics, metric: ready")))
    assert (objective.raw, objective.metric) == (kind, "ready")
    assert at_most_one_rule(objective)


@pytest.mark.parametrize("op", list(Comparison))
@pytest.mark.parametrize(
    ("fields", "signal", "attribute"),
    [
        (f"{GAUGE}, value_of: point", SliSignal.METRICS, None),
        ("value_of: attribute, attribute: freshness_s", SliSignal.SPANS, "freshness_s"),
        ("signal: logs, event: loaded, value_of: attribute, attribute: freshness_s", SliSignal.LOGS, "freshness_s"),
    ],
)
def test_thresholds_of_numbers(fields: str, signal: SliSignal, attribute: str | None, op: Comparison) -> None:
    objective = only(slo(threshold(fields), f"{{op: {op}, value: -0.70, target: 0.9}}"))
    assert objective.signal is signal
    assert objective.threshold == Threshold(op=op, value="-0.7", attribute=attribute)
    assert objective.attribute_keys >= ({attribute} if attribute else set())
    assert at_most_one_rule(objective)


@pytest.mark.parametrize(
    ("written", "value"), [("0", "0"), ("-0", "0"), ("1e3", "1000"), ("1.50", "1.5"), ("1e-9", "0.000000001")]
)
def test_the_value_of_a_threshold_is_a_plain_decimal(written: str, value: str) -> None:
    objective = only(slo(threshold(f"{GAUGE}, value_of: point"), f"{{op: lte, value: {written}, target: 0.9}}"))
    assert objective.threshold == Threshold(op=Comparison.LTE, value=value)


@pytest.mark.parametrize("fields", ["", "value_of: duration", HISTOGRAM, f"{HISTOGRAM}, value_of: duration"])
def test_without_a_word_a_threshold_is_a_duration_in_seconds(fields: str) -> None:
    objective = only(slo(threshold(fields), "{op: lte, value: 0.25, target: 0.9}"))
    assert (objective.duration_lte_ns, objective.threshold) == (250_000_000, None)


@given(ns=st.integers(1, 7 * 86_400 * 10**9))
def test_durations_of_spans_below_a_value_end_a_nanosecond_before_it(ns: int) -> None:
    objective = "{{op: {op}, value: {s}.{ns:09d}, target: 0.9}}"
    below = only(slo(threshold(), objective.format(op="lt", s=ns // 10**9, ns=ns % 10**9)))
    up_to = only(slo(threshold(), objective.format(op="lte", s=ns // 10**9, ns=ns % 10**9)))
    assert up_to.duration_lte_ns == ns
    assert below == replace(up_to, duration_lte_ns=ns - 1)
