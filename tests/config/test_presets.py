"""Each example does what it promises to, with telemetry as its sources send it: no part of the product is left out
between a message of a source topic and the events of a closed minute, but for Kafka.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from math import ceil
from pathlib import Path

import pytest
import yaml

from stream.config.exclusion import DEFAULT_WITHOUT
from stream.core.certificate.issuance import ALPHA
from stream.core.events import AlertEvent, CertificateEvent, SliEvent
from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import Severity
from stream.core.slo.sli import Sli
from stream.metrics.collectors import StateCollector
from tests.config.preset_messages import METRICS, Messages, gauge, http
from tests.config.preset_pipeline import PREFIX, Pipeline, bundle_of
from tests.config.preset_telemetry import OTHER_POD, POD, PRESETS, QMA, Seen, each, half_sampled
from tests.core.engine.log_writer import LogWriter, bundle, minute_by_minute, objective, run, steady
from tests.metrics.shown import scrape, status

SCHEMAS = Path(__file__).parents[2] / "schemas"
EXAMPLES = SCHEMAS / "config/examples"
NOTHING = Seen(0, 0, 0)


@cache
def ran(name: str) -> Pipeline:
    """Returns the pipeline of an example after its telemetry."""
    return after(name, PRESETS[name].sent)


def after(name: str, messages: Messages) -> Pipeline:
    """Returns the pipeline of an example after some messages."""
    return Pipeline(bundle_of(EXAMPLES / f"{name}.yaml")).run(messages)


def last_minute(messages: Messages) -> int:
    """Returns the last minute in which something ended."""
    return max(message.minute for message in messages)


def newest(name: str, objective: str = "") -> SliEvent:
    """Returns the indicator of the last minute in which something was sent."""
    return ran(name).indicators(objective or name)[last_minute(PRESETS[name].sent)]


def seen(sli: Sli) -> Seen:
    return Seen(sli.good, sli.total, sli.n, sli.n_excluded)


def test_every_example_has_telemetry() -> None:
    assert {file.stem for file in EXAMPLES.iterdir()} == PRESETS.keys()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_an_example_counts_what_its_sources_send(name: str) -> None:
    preset, pipeline = PRESETS[name], ran(name)
    found: dict[str, Mapping[int, Seen]] = {}
    for one in (*pipeline.bundle.objectives, *pipeline.found()):
        minutes = pipeline.indicators(one.name)
        first = min(minutes) if one.is_found else 0
        told = {minute: seen(minutes[minute].minute_sli) for minute in range(first, last_minute(preset.sent) + 1)}
        found[one.name] = {minute: figures for minute, figures in told.items() if figures != NOTHING}
    expected = {of or name: dict(minutes) for of, minutes in preset.seen.items()}
    assert found == expected


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_telemetry_of_an_example_has_good_and_bad_and_what_does_not_count(name: str) -> None:
    """Without either, figures could not tell a selector or a rule that takes too much or too little."""
    figures = [one for minutes in PRESETS[name].seen.values() for one in minutes.values()]
    assert any(one.good for one in figures)
    assert any(one.good < one.total for one in figures)
    accounts = ran(name).engine.ledger.sources.values()
    assert sum(a.counted for a in accounts) == sum(a.received for a in accounts), "the telemetry itself is sound"
    others = metrics_sent(PRESETS[name].sent) - metrics_named(name)
    items = sum(account.counted for account in accounts if not account.topic.startswith(PREFIX))
    assert others or any(one.excluded for one in figures) or items > sum(one.n for one in figures)


def metrics_sent(messages: Messages) -> set[str]:
    requests = [message.body for message in messages if message.topic == METRICS]
    return {m.name for one in requests for r in one.resource_metrics for s in r.scope_metrics for m in s.metrics}


def metrics_named(name: str) -> set[str | None]:
    return {metric for o in ran(name).bundle.objectives for metric in (o.metric, o.good_metric, o.bad_metric)}


def test_all_that_users_do_not_wait_for_is_told_by_the_telemetry_of_the_examples() -> None:
    """What every example on spans leaves out is left out of some example, so that the defaults cannot be lost."""
    assert {"http.route", "qma.traffic", "user_agent.synthetic.type"} <= {key for key, _ in DEFAULT_WITHOUT}
    assert newest("availability").minute_sli.n_excluded == 3


def test_the_budget_is_what_the_target_allows_of_the_requests() -> None:
    """Two of five failed where one of a thousand may, one of three where one of a hundred thousand may."""
    assert newest("availability").budget.consumed_ratio == pytest.approx(2 / 5 / 0.001, rel=1e-15)
    assert newest("rare-failures").budget.consumed_ratio == pytest.approx(1 / 3 / 0.00001, rel=1e-15)


def test_a_version_of_which_nobody_knows_how_it_was_sampled_waits_for_its_certificate() -> None:
    first, *_ = ran("availability").said(CertificateEvent)
    assert (first.version, first.state) == ("1.10", "pending")
    assert {assessment.objective.name: (assessment.n, assessment.n_bad) for assessment in first.assessments} == {
        "availability": (5, 2)
    }
    assert set(first.reasons) == {"insufficient_evidence", "sampling_unknown"}


def test_objectives_that_certificates_do_not_claim_begin_none() -> None:
    names = ("certification-latency", "evidence-completeness", "sampling-consistency", "traffic-shift")
    assert [name for name in names if ran(name).said(CertificateEvent)] == []


def test_an_outage_pages_by_the_policy_of_the_example_and_by_no_other_rule() -> None:
    """As soon as its short window of five minutes is covered."""
    (alert,) = ran("burn-rate-alerts").said(AlertEvent)
    assert (alert.rule.name, alert.rule.severity, alert.state) == ("fast-burn", Severity.PAGE, AlertState.FIRING)
    assert alert.minute == ran("burn-rate-alerts").indicators("burn-rate-alerts")[4].minute
    assert alert.held_back is None
    assert alert.reading is not None
    assert alert.reading.short_burn_rate == pytest.approx(100 / 101 / 0.001, rel=1e-15)


def test_a_quiet_slice_weighs_as_much_as_a_busy_one() -> None:
    """99 of 99 in one slice, one of two in the other."""
    window = newest("busy-and-quiet").window_sli
    assert (window.n, window.good, window.total) == (2, 1.5, 2)


def test_slices_with_too_few_requests_are_not_judged() -> None:
    """One minute with 95 % and one with 100 % of its requests in time, and one with 19 requests."""
    window = newest("latency-p99").window_sli
    assert (window.n, window.good) == (2, 1)


def test_a_minute_is_not_ready_where_a_container_is_not_or_none_tells() -> None:
    """Both are ready, then one is, then the other alone tells that it is gone."""
    assert [ran("readiness").indicators("readiness")[minute].window_sli.good for minute in range(3)] == [1, 1, 1]
    assert newest("readiness").window_sli.n == 3


def test_a_region_may_take_too_little_or_too_much() -> None:
    """Half, then seven of ten; the third slice has too few requests."""
    least, most = newest("traffic-shift").window_sli, newest("traffic-shift", "traffic-shift-most").window_sli
    assert (least.n, least.good, most.n, most.good) == (2, 2, 2, 1)


def test_a_calendar_month_begins_and_ends_at_midnight_in_berlin() -> None:
    """December is from 23:00 of the last of November to 23:00 of the last of December, UTC: 31 days."""
    event = newest("calendar-month")
    assert event.end_minute - event.start_minute == 31 * 1440
    assert event.minute - event.start_minute == 5 * 1440 + 60 + 55  # T0 is December 6, 00:55 UTC
    assert event.budget.consumed_ratio == pytest.approx(1 / 3 / 0.005, rel=1e-15)


def test_a_planned_exclusion_leaves_its_minutes_out_of_the_budget() -> None:
    """Four requests failed at 01:00 UTC, when the database moves."""
    window = newest("planned-exclusion").window_sli
    assert (window.good, window.total) == (3, 4)


@pytest.mark.parametrize(
    ("name", "gaps"),
    [
        ("cohorts", {"gold": 3 / 5 - 1 / 2, "silver": 3 / 5 - 1, "__other__": 3 / 5 - 1 / 2}),
        ("canary-delta", {"1.11": 4 / 5 - 1 / 2, "__other__": 4 / 5 - 1}),
        ("canary-similarity", {"1.11": 0, "__other__": 0}),
        ("instance-divergence", {POD: 4 / 5 - 1, OTHER_POD: 4 / 5 - 1 / 2, "__other__": 4 / 5 - 1}),
    ],
)
def test_a_cohort_tells_how_much_worse_it_is_than_everyone(name: str, gaps: Mapping[str, float]) -> None:
    found = {cohort: newest(name, f"{name}@{cohort}").cohort_gap for cohort in gaps}
    assert found == {cohort: pytest.approx(gap, abs=1e-15) for cohort, gap in gaps.items()}


def test_requests_below_the_floor_are_missing() -> None:
    """Ten a minute there must be, eight there were, of which seven were good."""
    window = newest("traffic-floor").window_sli
    assert (window.n, window.n_missing, window.ratio_lower) == (48, 12, 42 / 60)


def test_requests_that_only_the_metric_knows_of_are_missing() -> None:
    """110 a minute by the metric, 100 by the spans, half a percent may differ; the first minute is no evidence."""
    window = newest("missing-requests").window_sli
    assert window.n_missing == ceil((110 * 0.995 - 100) * 7)
    assert window.ratio_lower == pytest.approx(760 / (800 + (110 * 0.995 - 100) * 7), rel=1e-4)


def test_spans_that_a_collector_lost_may_have_been_failures_of_any_service() -> None:
    """3 and 150 that it gave up, more than came in that minute, and 7 that found no room in its queue."""
    window = newest("lost-spans").window_sli
    assert window.n_missing == 3 + 150 + 7
    assert window.ratio_lower == pytest.approx(99 * 8 / (800 + 160), rel=1e-15)


@pytest.mark.parametrize(
    ("threshold", "too_few", "too_many"),
    [("8", 0, 0), ("0", (100 * 0.99 - 50) * 7, 0), ("c", 0, (200 * 0.99 - 100) * 7)],
    ids=["as-declared", "declared-unsampled", "declared-one-of-four"],
)
def test_spans_that_declare_another_sampling_than_they_had_are_found_out(
    threshold: str, too_few: float, too_many: float
) -> None:
    """50 of 100 requests a minute have spans, which say that they stand for 100, 50 or 200."""
    pipeline, last = after("sampling-consistency", half_sampled(threshold)), 7
    found = [pipeline.indicators(f"sampling-consistency{of}")[last].window_sli.n_missing for of in ("", "-excess")]
    assert found == [ceil(too_few), ceil(too_many)]


def test_a_composite_tells_the_shares_of_its_components_and_the_calls_between_them() -> None:
    event = newest("composite")
    assert event.objective.service == "production/shop/shop"
    assert {share.component.objective: share.ratio for share in event.components} == {
        "composite-checkout": 0.5,
        "composite-search": 1.0,
        "composite-shipping": None,
    }
    names = {(c.call.caller, c.call.callee): (c.n, c.bad) for c in event.calls if c.n}
    checkout, search, shipping = (f"production/shop/{name}" for name in ("checkout", "search", "shipping"))
    assert names == {(checkout, search): (1, 1), (checkout, shipping): (1, 0)}


def test_what_was_not_seen_within_the_time_is_missing_from_the_coverage(tmp_path: Path) -> None:
    """The example with two minutes in place of a day: four of six were seen, and then nothing any more."""
    file = tmp_path / "coverage.yaml"
    file.write_text((EXAMPLES / "coverage.yaml").read_text().replace("within: 24h", "within: 2m"))
    minutes = Pipeline(bundle_of(file)).run(PRESETS["coverage"].sent + http(200, "/checkout", minute=3))
    found = {at: (e.minute_sli.good, e.gap) for at, e in minutes.indicators("coverage").items() if 0 <= at <= 3}
    assert found == {0: (1, True), 1: (pytest.approx(4 / 6, abs=2**-29), False), 2: (0, False), 3: (0, False)}


def indicators_listed() -> list[tuple[str, str, str]]:
    """Returns the rows of the table in the folder's README: indicator, file, and what it reads."""
    section = (SCHEMAS / "config/README.md").read_text().split("## The usual indicators")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [(indicator, file.strip("`-"), reads) for indicator, file, reads in rows[1:]]


def test_the_readme_lists_every_example_once() -> None:
    files = [file for _, file, _ in indicators_listed() if file]
    assert sorted(files) == sorted(file.name for file in EXAMPLES.iterdir())


def test_what_the_readme_says_that_an_example_reads_stands_in_it() -> None:
    of_ours = {"/metrics"}
    lacking = {
        (file, word)
        for _, file, reads in indicators_listed()
        for word in set(re.findall(r"`([^`]+)`", reads)) - of_ours
        if word not in (EXAMPLES / file).read_text()
    }
    assert lacking == set()


def test_the_confidence_that_the_readme_promises_is_that_of_every_certificate() -> None:
    (reads,) = [reads for indicator, file, reads in indicators_listed() if not file]
    assert f"{1 - ALPHA:.0%}".replace("%", " %") in reads


def test_what_a_worker_exposes_of_a_certificate_is_what_its_example_reads() -> None:
    """A version has waited for three minutes, which is no six hours."""
    writer = LogWriter(bundle(objective(target="0.99999")))
    minute_by_minute(writer, steady(4, 1))
    exposed = scrape(StateCollector(status(run(writer.log)[0])))["qma_certification_seconds"].samples
    assert [sample.value for sample in exposed] == [3 * 60]
    sent = each(gauge(sample.name, sample.value, found=sample.labels, by=QMA) for sample in exposed)
    indicator = after("certification-latency", sent).indicators("certification-latency")[0]
    assert seen(indicator.minute_sli) == Seen(1, 1, 1)


def test_metrics_of_our_own_that_examples_read_are_exposed() -> None:
    catalogue = yaml.safe_load((SCHEMAS / "metrics.v1.yaml").read_text())["metrics"]
    named = {metric for file in EXAMPLES.iterdir() for metric in re.findall(r"metric: (qma_\w+)", file.read_text())}
    assert named
    assert named <= {entry["name"] for entry in catalogue}
