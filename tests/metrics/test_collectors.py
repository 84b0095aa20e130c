"""`/metrics`: what a scrape shows of a real fold, and that code and catalogue name the same families."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.samples import Sample

from stream.core.certificate.lifecycle import CertificateState
from stream.core.engine import Engine
from stream.core.service_key import partition_of
from stream.ingest.shuffle import IngestStats
from stream.metrics.collectors import IngestCollector, StateCollector
from stream.worker.status import StateStatus
from tests.core.engine.cohort_oracle import objectives as cohort_objectives
from tests.core.engine.log_writer import SERVICE, T0_NS, LogWriter, bundle, minute_by_minute, objective, run, steady
from tests.core.engine.scenarios import BAD, GOOD, QUIET, rich_log
from tests.core.engine.test_cohorts import minute
from tests.metrics.shown import OPENMETRICS, expose, scrape, series, status, value

CATALOGUE = Path(__file__).parents[2] / "schemas" / "metrics.v1.yaml"


@lru_cache
def engines() -> tuple[Engine, Engine]:
    """Returns the fold of the rich log while an alert fires, after messages were refused, and at its end."""
    log = rich_log()
    return run(log[:91])[0], run(log)[0]


def stats() -> IngestStats:
    return IngestStats(
        messages=1, rows=2, records=3, bytes=4, cycles=5, commits_rejected=6, lost_offsets=7, lag={"a/b.c/11": 8},
        committed_at_s=1.0, compiled={"SPAN/otlp_proto": True}, invalid_utf8=Counter({"otlp_spans": 9}),
    )  # fmt: skip


@lru_cache
def everything() -> dict[str, Metric]:
    """Returns every family of both kinds of process."""
    return {**scrape(StateCollector(status(engines()[0]), sloth=True)), **scrape(IngestCollector(stats()))}


def catalogue(part: str) -> dict[str, dict]:
    return {entry["name"]: entry for entry in yaml.safe_load(CATALOGUE.read_text())[part]}


def everything_listed() -> dict[str, dict]:
    return {**catalogue("metrics"), **catalogue("sloth")}


def exposed_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_code_and_catalogue_name_the_same_families():
    assert {exposed_name(family) for family in everything().values()} == everything_listed().keys()


@pytest.mark.parametrize("name", everything_listed())
def test_a_family_is_as_the_catalogue_says(name: str):
    family = everything()[name.removesuffix("_total")]
    entry = everything_listed()[name]

    assert family.samples, "the scenario shows every family"
    assert entry["type"] == family.type
    assert entry["help"] == family.documentation
    assert not set('\\\n"') & set(entry["help"]), "the formats differ in what they escape here"
    assert {tuple(sorted(sample.labels)) for sample in family.samples} == {tuple(sorted(entry["labels"]))}


@pytest.mark.parametrize("entry", catalogue("metrics").values(), ids=lambda entry: str(entry["name"]))
def test_a_name_says_prefix_unit_and_total(entry: dict):
    name, unit = entry["name"], entry["unit"]

    assert re.fullmatch(r"qma_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") == (entry["type"] == "counter")
    if unit in ("seconds", "ratio", "bytes"):
        assert name.removesuffix("_total").endswith(f"_{unit}")
    else:
        assert not re.search(r"_(seconds|ratio|bytes|milliseconds|percent|minutes)(_|$)", name)


@pytest.mark.parametrize("role", ["state", "ingest"])
def test_openmetrics_says_the_same(role: str):
    collector = StateCollector(status(engines()[0])) if role == "state" else IngestCollector(stats())
    families = {f.name: f for f in parse_openmetrics(expose(collector, OPENMETRICS).plain().decode())}

    assert {name: (f.type, len(f.samples)) for name, f in families.items()} == {
        name: (f.type, len(f.samples)) for name, f in scrape(collector).items()
    }


def test_no_series_is_exposed_twice():
    for family in everything().values():
        seen = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(seen) == len(set(seen)), family.name


def test_an_indicator_is_exposed_with_its_target():
    families = scrape(StateCollector(status(engines()[0])))
    slo = {"service": GOOD, "objective": "availability"}

    assert value(families["qma_sli_ratio"], **slo, window="1m") == 1.0
    assert 0.999 < value(families["qma_sli_ratio"], **slo, window="30d") < 1.0
    assert value(families["qma_objective_target_ratio"], **slo) == 0.99
    assert value(families["qma_error_budget_remaining_ratio"], **slo, bound="max") < 1.0
    assert value(families["qma_burn_rate"], **slo, window="5m") == 0.0


def test_a_firing_alert_is_1_and_the_others_are_0():
    family = scrape(StateCollector(status(engines()[0])))["qma_alert_firing"]

    assert value(family, service=BAD, rule="page-6h-30m", severity="page") == 1
    assert value(family, service=BAD, rule="page-1h-5m", severity="page") == 0
    lost = {"ticket-evidence-gap"}  # offsets of the source expired unread, which is no fault of any service
    assert {sample.labels["rule"] for sample in series(family, service=GOOD) if sample.value} == lost
    assert {sample.value for sample in family.samples} == {0, 1}


def test_no_data_is_not_a_ratio():
    writer = LogWriter(bundle(objective()))
    minute_by_minute(writer, [*steady(3, 60), [], [], []])
    engine, _ = run(writer.log)
    assert next(iter(engine.latest.values())).minute_sli.n == 0

    families = scrape(StateCollector(status(engine)))

    assert series(families["qma_sli_ratio"], window="1m") == []
    assert value(families["qma_sli_events"], window="1m") == 0
    assert value(families["qma_sli_ratio"], window="30d") == 1.0


def test_a_service_that_was_never_heard_of_has_no_ratio_but_a_target():
    families = scrape(StateCollector(status(engines()[1])))

    assert series(families["qma_sli_ratio"], service=QUIET, window="1m") == []
    assert value(families["qma_objective_target_ratio"], service=QUIET) == 0.999


def test_a_certificate_is_in_exactly_one_state():
    states: dict[tuple[int, str, str], list[Sample]] = defaultdict(list)
    for engine in engines():
        for sample in scrape(StateCollector(status(engine)))["qma_certificate_state"].samples:
            states[id(engine), sample.labels["service"], sample.labels["version"]].append(sample)

    assert states
    for samples in states.values():
        assert {sample.labels["state"] for sample in samples} == set(CertificateState)
        assert sorted(sample.value for sample in samples) == [0, 0, 0, 1]


def test_the_state_of_a_certificate_is_that_of_the_fold():
    family = scrape(StateCollector(status(engines()[0])))["qma_certificate_state"]

    assert value(family, service=GOOD, version="v1", state="issued") == 1
    assert value(family, service=BAD, version="v2", state="pending") == 1
    assert value(family, service=BAD, version="v1", state="revoked") == 1


def test_the_time_to_a_certificate_stands_still_when_it_is_issued():
    slo = objective(target="0.9", sampling_none=True)
    writer = LogWriter(bundle(slo))
    minute_by_minute(writer, steady(20, 4))
    waiting, decided = [
        scrape(StateCollector(status(run(writer.log[:length])[0])))["qma_certification_seconds"] for length in (5, 20)
    ]

    version = {"service": SERVICE, "version": "v1"}
    assert value(waiting, **version) == 4 * 60  # four of the five minutes are closed
    # 0.9 takes 35 events without a failure, which are there with the ninth minute; it closes a minute after it ended.
    assert value(decided, **version) == 10 * 60


def test_nobody_waits_for_the_certificate_of_a_version_without_events():
    writer = LogWriter(bundle(objective()))
    minute_by_minute(writer, [*steady(2, 4), *[[]] * 70])
    families = scrape(StateCollector(status(run(writer.log)[0])))

    assert value(families["qma_certificate_state"], service=SERVICE, version="v1", state="pending") == 1
    assert families["qma_certification_seconds"].samples == []


def test_refused_items_are_counted_by_reason():
    families = scrape(StateCollector(status(engines()[1])))

    where = {"topic": "extra", "log_partition": "0"}
    assert value(families["qma_items_rejected"], **where, reason="malformed") == 3
    assert value(families["qma_items_received"], **where) == 3


def test_the_exposed_ledger_balances():
    families = scrape(StateCollector(status(engines()[1])))
    totals = {
        name: sum(sample.value for sample in families[f"qma_items_{name}"].samples)
        for name in ("received", "counted", "duplicate", "late", "rejected")
    }

    assert totals["received"] == sum(total for name, total in totals.items() if name != "received")
    assert totals["received"] == sum(account.received for account in engines()[1].ledger.sources.values())


def test_a_revoked_partition_takes_its_series_along():
    elsewhere = "prod/shop/basket"
    assert partition_of(elsewhere, 2) == 1
    other = LogWriter(replace(bundle(objective("other", service=elsewhere)), partitions=2))
    batches = [[replace(event, service=elsewhere) for event in batch] for batch in steady(3, 60)]
    minute_by_minute(other, batches)
    second, _ = run(other.log, Engine(1))
    worker = status(engines()[0], second)
    collector = StateCollector(worker)
    assert any(series(family, log_partition="1") for family in scrape(collector).values())
    assert any(series(family, objective="other") for family in scrape(collector).values())

    worker.forget(1)

    for family in scrape(collector).values():
        assert not series(family, log_partition="1"), family.name
        assert not series(family, objective="other"), family.name
    assert series(scrape(collector)["qma_log_lag_records"], log_partition="0")


def test_the_frontier_is_absent_while_a_source_was_never_heard_of():
    writer = LogWriter(bundle(objective(), topics=("events", "silent")))
    minute_by_minute(writer, steady(3, 60))
    engine, _ = run(writer.log)

    families = scrape(StateCollector(status(engine)))

    assert engine.frontier_ns is None
    assert families["qma_frontier_timestamp_seconds"].samples == []
    assert families["qma_frontier_lag_seconds"].samples == []


def test_the_frontier_and_its_lag_are_in_seconds():
    writer = LogWriter(bundle(objective()))
    minute_by_minute(writer, steady(3, 60), lag_s=5)
    engine, _ = run(writer.log)

    families = scrape(StateCollector(status(engine)))

    assert value(families["qma_frontier_timestamp_seconds"]) == T0_NS / 1e9 + 180
    assert value(families["qma_frontier_lag_seconds"]) == 5


def test_a_worker_without_partitions_exposes_empty_families():
    assert all(not family.samples for family in scrape(StateCollector(StateStatus())).values())


def test_an_ingest_that_committed_nothing_has_no_commit_age():
    families = scrape(IngestCollector(IngestStats()))

    assert "qma_ingest_commit_age_seconds" not in families
    assert value(families["qma_ingest_messages"]) == 0


def test_the_lag_of_a_source_is_by_topic_and_partition():
    families = scrape(IngestCollector(stats()))

    assert value(families["qma_ingest_lag_messages"], topic="a/b.c", partition="11") == 8


def test_texts_that_are_no_utf8_are_counted_by_topic():
    families = scrape(IngestCollector(stats()))

    assert value(families["qma_ingest_invalid_text_items"], topic="otlp_spans") == 9


def test_cohorts_that_are_found_are_shown_while_they_have_events():
    finder = cohort_objectives()
    pods = [[*minute(i, ("a", 10, 0)), *(minute(i, ("b", 10, 9)) if i < 8 else [])] for i in range(90)]
    writer = LogWriter(bundle(*finder, cohorts_max=2))
    minute_by_minute(writer, [*pods, minute(90, ("c", 10, 0))])
    engine = Engine(0)
    collector = StateCollector(status(engine))
    shown = []
    for offset, (time_ns, record) in enumerate(writer.log):
        engine.apply(offset, time_ns, record)
        if offset in (8, 80, 90):
            families = scrape(collector)
            shown.append(
                [
                    {sample.labels["objective"].partition("@")[2] for sample in families[name].samples}
                    for name in ("qma_sli_ratio", "qma_alert_firing")
                ]
            )
            firing = {s.labels["objective"] for s in families["qma_alert_firing"].samples if s.value}
            assert firing == ({"availability@b"} if offset == 8 else set())
    others = {"__other__"}
    assert shown == [
        [{"", "a", "b"}, others | {"a", "b"}],
        [{"", "a"}, others | {"a", "b"}],
        [{"", "a"}, others | {"a", "c"}],
    ]
