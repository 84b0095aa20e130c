"""Sloth's series: its names, its labels, its meanings."""

from __future__ import annotations

import pytest
from prometheus_client.core import Metric

from stream import __version__
from stream.metrics.collectors import StateCollector
from stream.metrics.sloth import percent, prometheus_duration
from tests.core.engine.log_writer import SERVICE, LogWriter, bundle, minute_by_minute, objective, run, steady
from tests.metrics.shown import scrape, series, status, value

# Source: slok/sloth, pkg/common/conventions/slo.go and examples/_gen/getting-started.yml.
ERROR_RATIOS = {f"slo:sli_error:ratio_rate{window}" for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")}
OTHERS = {
    *("slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days", "sloth_slo_info"),
    *("slo:current_burn_rate:ratio", "slo:period_burn_rate:ratio", "slo:period_error_budget_remaining:ratio"),
}
ID = {"sloth_id": f"{SERVICE}-requests-availability", "sloth_service": SERVICE, "sloth_slo": "requests-availability"}


def shown(*, bad_every: int = 0, idle: int = 0, window_minutes: int = 43_200) -> dict[str, Metric]:
    """Returns what is shown after 70 minutes of traffic and then some without."""
    writer = LogWriter(bundle(objective("requests-availability", "0.999", window_minutes=window_minutes)))
    minute_by_minute(writer, [*steady(70, 20, bad_every=bad_every), *([[]] * (idle + 1))])
    return scrape(StateCollector(status(run(writer.log)[0]), sloth=True))


def test_nothing_of_sloth_is_shown_unless_asked_for():
    writer = LogWriter(bundle(objective()))
    minute_by_minute(writer, steady(3, 20))

    assert not [
        name for name in scrape(StateCollector(status(run(writer.log)[0]))) if "slo:" in name or "sloth" in name
    ]


def test_the_names_are_those_that_sloth_records():
    assert {name for name in shown() if name.startswith("slo")} == ERROR_RATIOS | OTHERS


def test_the_labels_are_those_that_sloth_records():
    families = shown()

    for name in ERROR_RATIOS:
        [sample] = families[name].samples
        assert sample.labels == {**ID, "sloth_window": name.removeprefix("slo:sli_error:ratio_rate")}
    for name in OTHERS - {"sloth_slo_info"}:
        [sample] = families[name].samples
        assert sample.labels == ID
    [info] = families["sloth_slo_info"].samples
    assert info.value == 1
    assert info.labels == {
        **ID,
        "sloth_mode": "qma-stream",
        "sloth_spec": "openslo/v1",
        "sloth_version": __version__,
        "sloth_objective": "99.9",
    }


def test_the_values_are_what_sloth_means_by_them():
    families = shown(bad_every=10)

    for name in ERROR_RATIOS:
        assert value(families[name]) == pytest.approx(0.1)
    assert value(families["slo:objective:ratio"]) == 0.999
    assert value(families["slo:error_budget:ratio"]) == 0.001
    assert value(families["slo:time_period:days"]) == 30
    assert value(families["slo:current_burn_rate:ratio"]) == pytest.approx(100)
    assert value(families["slo:period_burn_rate:ratio"]) == pytest.approx(100)
    assert value(families["slo:period_error_budget_remaining:ratio"]) == pytest.approx(-99)


def test_a_window_without_data_has_no_series():
    families = shown(idle=6)

    assert "slo:sli_error:ratio_rate5m" not in families
    assert not series(families["slo:current_burn_rate:ratio"])
    assert value(families["slo:sli_error:ratio_rate1h"]) == 0
    assert value(families["slo:sli_error:ratio_rate30d"]) == 0


def test_the_period_is_weighted_by_events_where_sloth_weighs_by_time():
    writer = LogWriter(bundle(objective("requests-availability")))
    busy, quiet = steady(10, 90, bad_every=2), steady(10, 10, start=10)
    minute_by_minute(writer, [*busy, *quiet, []])
    families = scrape(StateCollector(status(run(writer.log)[0]), sloth=True))

    assert value(families["slo:sli_error:ratio_rate30d"]) == pytest.approx(0.45)  # by time it would be 0.25


def test_a_window_that_an_alert_looks_at_and_the_objective_has_is_shown_once():
    families = shown(bad_every=10, window_minutes=3 * 1440)

    assert len(families["slo:sli_error:ratio_rate3d"].samples) == 1
    assert "slo:sli_error:ratio_rate30d" not in families
    assert value(families["slo:time_period:days"]) == 3


@pytest.mark.parametrize(
    ("minutes", "text"),
    # Source: prometheus/common, model/time.go, Duration.String: weeks only where nothing is left over.
    [
        *((5, "5m"), (30, "30m"), (60, "1h"), (90, "1h30m"), (120, "2h"), (360, "6h"), (1440, "1d"), (2160, "1d12h")),
        *((4320, "3d"), (10_080, "1w"), (40_320, "4w"), (43_200, "30d"), (129_600, "90d"), (1501, "1d1h1m")),
    ],
)
def test_lengths_are_written_as_in_the_names_of_sloth(minutes: int, text: str):
    assert prometheus_duration(minutes) == text


@pytest.mark.parametrize(
    ("target", "text"), [("0.999", "99.9"), ("0.9995", "99.95"), ("0.9", "90"), ("0.99999", "99.999"), ("0", "0")]
)
def test_the_target_is_shown_in_percent_exactly(target: str, text: str):
    assert percent(target) == text
