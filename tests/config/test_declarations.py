"""Budget adjustments and maintenance."""

from __future__ import annotations

import pytest

from stream.core.slo.declared import Adjustment, Mute
from tests.config.reading import document, loaded, ratio, read, slo

# Source: GNU date, `date -d 2026-12-06T02:00:00Z +%s`, in minutes.
TWO_O_CLOCK = 29942040


def adjustment(fields: str, name: str = "move") -> str:
    return document("BudgetAdjustment", name, f"{{description: database move, {fields}}}", version="qma/v1")


def maintenance(fields: str, name: str = "move") -> str:
    return document("Maintenance", name, f"{{description: database move, {fields}}}", version="qma/v1")


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("startTime: 2026-12-06T02:00:00Z, duration: 2h", TWO_O_CLOCK, TWO_O_CLOCK + 120),
        ("startTime: 2026-12-06T02:00:00Z, endTime: 2026-12-06T02:01:00Z", TWO_O_CLOCK, TWO_O_CLOCK + 1),
        ("startTime: 2026-12-06T03:00:00+01:00, duration: 1d", TWO_O_CLOCK, TWO_O_CLOCK + 1440),
        ("startTime: 2026-12-05T20:15:00-05:45, duration: 1m", TWO_O_CLOCK, TWO_O_CLOCK + 1),
        ('startTime: "2026-12-06t02:00:00.000z", duration: 1w', TWO_O_CLOCK, TWO_O_CLOCK + 10080),
    ],
)
def test_times_are_minutes_half_open(written: str, start: int, end: int) -> None:
    configuration = loaded(slo(), adjustment(f"service: checkout, {written}"), maintenance(f"services: all, {written}"))
    assert configuration.adjustments == (
        Adjustment(name="move", objectives=("slo",), start_minute=start, end_minute=end, reason="database move"),
    )
    assert configuration.mutes == (
        Mute(name="move", services=(), start_minute=start, end_minute=end, reason="database move"),
    )


def test_an_adjustment_is_for_all_slos_of_a_service_or_those_of_one_sli() -> None:
    span = "startTime: 2026-12-06T02:00:00Z, duration: 2h"
    configuration = loaded(
        slo(ratio("cohorts: {tier: gold}"), name="a"),
        slo(name="b"),
        slo(name="c", service="search"),
        adjustment(f"service: checkout, {span}", "every"),
        adjustment(f"service: checkout, indicatorRef: a-sli, {span}", "one"),
    )
    assert [(one.name, one.objectives) for one in configuration.adjustments] == [
        ("every", ("a", "a@gold", "a@__other__", "b")),
        ("one", ("a", "a@gold", "a@__other__")),
    ]


def test_maintenance_is_of_services_by_their_name_or_key() -> None:
    span = "startTime: 2026-12-06T02:00:00Z, duration: 2h"
    documents = [slo(name="a"), slo(ratio("namespace: eu"), name="b"), slo(name="c", service="search")]
    configuration = loaded(
        *documents,
        maintenance(f"services: [checkout], {span}", "by-name"),
        maintenance(f"services: [production/eu/checkout, search], {span}", "by-key"),
    )
    assert [(one.name, one.services) for one in configuration.mutes] == [
        ("by-key", ("production/-/search", "production/eu/checkout")),
        ("by-name", ("production/-/checkout", "production/eu/checkout")),
    ]


@pytest.mark.parametrize(
    "time", ["2026-12-06", "2026-12-06 02:00:00Z", "2026-12-06T02:00Z", "2026-13-06T02:00:00Z", "1969-12-31T23:00:00Z"]
)
def test_other_ways_to_write_a_time_are_refused(time: str) -> None:
    _, problems = read(slo(), adjustment(f"service: checkout, startTime: {time}, duration: 2h"))
    assert [problem.path for problem in problems] == ["spec.startTime"]


def test_an_unknown_service_is_not_reported_when_its_slo_could_not_be_read() -> None:
    wrong = slo(service="search", objectives="{target: 2}", name="search")
    span = "startTime: 2026-12-06T02:00:00Z, duration: 2h"
    _, problems = read(slo(), wrong, maintenance(f"services: [search], {span}"), adjustment(f"service: search, {span}"))
    assert [problem.path for problem in problems] == ["spec.objectives[0].target"]
