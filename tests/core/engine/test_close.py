"""Closed minutes: what is published when, and when alerts begin and end."""

import pytest

from stream.core.events import AlertEvent, SketchEvent, SliEvent
from stream.core.slo.alerts import AlertState
from stream.core.units import HOUR_NS, MINUTE_NS, SECOND_NS, WEIGHT_ONE, minute_of
from tests.core.engine.log_writer import (
    SERVICE,
    T0_NS,
    Event,
    LogWriter,
    bundle,
    minute_by_minute,
    objective,
    run,
    steady,
)

T0 = minute_of(T0_NS)
FIRING, INACTIVE = AlertState.FIRING, AlertState.INACTIVE


def traffic(minutes: int, start: int, per_minute: int = 1000, bad: int = 0) -> list[list[Event]]:
    """Returns `minutes` minutes of requests of which `bad` fail."""
    batches = []
    for minute in range(start, start + minutes):
        at_ns, good = T0_NS + minute * MINUTE_NS + SECOND_NS, per_minute - bad
        batch = [Event(at_ns, count=good, weight=good * WEIGHT_ONE)] if good else []
        if bad:
            batch.append(Event(at_ns, count=bad, weight=bad * WEIGHT_ONE, bad=True))
        batches.append(batch)
    return batches


def story(*chapters: tuple[int, int], target: str = "0.999", lag_s: int = 0, **rest) -> tuple[LogWriter, int]:
    """Writes chapters of (minutes, bad of 1,000 a minute; -1 for no traffic) one after the other."""
    writer, minute = LogWriter(bundle(objective(target=target, **rest))), 0
    for minutes, bad in chapters:
        batches = [[]] * minutes if bad < 0 else traffic(minutes, minute, bad=bad)
        minute_by_minute(writer, batches, start=minute, lag_s=lag_s)
        minute += minutes
    minute_by_minute(writer, [[]], start=minute, lag_s=lag_s)
    return writer, minute


def alerts(outputs, rule: str | None = None) -> list[AlertEvent]:
    return [o for o in outputs if isinstance(o, AlertEvent) and rule in (None, o.rule.name)]


def slis(outputs) -> list[SliEvent]:
    return [o for o in outputs if isinstance(o, SliEvent)]


# Alerts: times to fire and to clear


def test_a_total_outage_pages_within_its_first_minute():
    """Exact: 51.8 s for the page of an hour. Here: the first minute that closes."""
    writer, _ = story((60, 0), (3, 1000))
    _, outputs = run(writer.log)
    page = alerts(outputs, "page-1h-5m")[0]
    assert (page.state, page.minute) == (FIRING, T0 + 60)
    outage_ns = T0_NS + 60 * MINUTE_NS
    assert page.context.now_ns - outage_ns <= MINUTE_NS + 60 * SECOND_NS + MINUTE_NS


def test_a_total_outage_fires_the_slower_rules_after_their_share_of_the_budget():
    """Exact: 2.16 min for the page of six hours, 4.32 min for the ticket of a day."""
    writer, _ = story((24 * 60, 0), (6, 1000))
    _, outputs = run(writer.log)
    fired = {a.rule.name: a.minute - T0 - 24 * 60 + 1 for a in alerts(outputs) if a.state is FIRING}
    workbook = {"page-1h-5m": 1, "page-6h-30m": 3, "ticket-1d-2h": 5, "ticket-3d-6h": 2}
    assert fired == workbook | {"page-exhaustion-24h": 2, "ticket-2x-1d-2h": 3}


def test_fifteen_percent_errors_page_after_six_minutes_and_clear_five_after_they_stop():
    """Exact: fires at 5.76 min, clears 4.52 min after the errors stop."""
    writer, _ = story((60, 0), (10, 150), (10, 0))
    _, outputs = run(writer.log)
    fired, cleared = alerts(outputs, "page-1h-5m")
    assert (fired.state, fired.minute - T0 - 60 + 1) == (FIRING, 6)
    assert (cleared.state, cleared.minute - T0 - 70 + 1) == (INACTIVE, 5)
    assert fired.reading is not None
    assert fired.reading.long_burn_rate == pytest.approx(15.0)
    assert fired.reading.short_burn_rate == 150.0


def test_an_alert_says_what_is_left_as_bounds_while_the_window_is_not_covered():
    writer, _ = story((60, 0), (3, 1000))
    page = alerts(run(writer.log)[1])[0]
    assert page.reading is not None
    left = page.reading.budget
    assert left.remaining_min_ratio is not None
    assert left.remaining_max_ratio is not None
    assert left.remaining_min_ratio < 0 < left.remaining_max_ratio < 1
    assert page.reading.coverage == pytest.approx(61 / 43_200)
    assert "At most" in page.explanation
    assert "not covered yet" in page.explanation


def test_alerts_begin_to_run_once_their_short_window_is_covered():
    writer, _ = story((8, 1000))
    (page,) = alerts(run(writer.log)[1], "page-1h-5m")
    assert page.minute == T0 + 4


def test_no_data_neither_fires_nor_resolves():
    writer, _ = story((60, 0), (5, 1000), (70, -1))
    assert [alert.state for alert in alerts(run(writer.log)[1], "page-1h-5m")] == [FIRING]
    writer, _ = story((60, 0), (5, 1000), (20, -1), (10, 0))
    page = alerts(run(writer.log)[1], "page-1h-5m")
    assert [(alert.state, alert.minute) for alert in page] == [(FIRING, T0 + 60), (INACTIVE, T0 + 85)]


def test_while_catching_up_nothing_fires_or_resolves():
    writer, _ = story((60, 0), (10, 1000), lag_s=600)
    _, outputs = run(writer.log)
    assert alerts(outputs) == []
    assert all(event.catching_up for event in slis(outputs))

    writer, minute = story((60, 0), (10, 1000))
    minute_by_minute(writer, traffic(30, minute + 1), start=minute + 1, lag_s=600)
    after = [alert for alert in alerts(run(writer.log)[1]) if alert.minute > T0 + minute]
    assert after == []


def test_a_gap_in_the_short_window_decides_nothing():
    writer, minute = story((60, 0), (5, 0))
    until_ns = T0_NS + (minute + 3) * MINUTE_NS
    writer.record(until_ns=until_ns, lost=10)
    minute_by_minute(writer, traffic(10, minute + 3, bad=1000), start=minute + 3)
    _, outputs = run(writer.log)
    after_the_gap = minute + 4
    assert [a.minute - T0 for a in alerts(outputs, "page-1h-5m")] == [after_the_gap + 4]
    assert [e.minute - T0 for e in slis(outputs) if e.gap] == [minute + 1, minute + 2, minute + 3]


# Indicators


def test_a_minute_closes_when_the_frontier_has_left_it_by_the_allowed_lateness():
    for beyond_ns, closed in ((0, True), (-1, False)):
        writer = LogWriter(bundle(objective()))
        writer.record([Event(T0_NS)], until_ns=T0_NS)
        writer.record(until_ns=T0_NS + 2 * MINUTE_NS + beyond_ns)
        assert bool(slis(run(writer.log)[1])) == closed


def test_minutes_wait_longer_or_shorter_once_the_allowed_lateness_is_changed():
    about, events = objective(), [Event(T0_NS + m * MINUTE_NS) for m in range(12)]
    writer, closed = LogWriter(bundle(about)), []
    for allowed_s, now in ((60, 4), (300, 8), (0, 12)):
        writer.bundle = bundle(about, allowed_lateness_ns=allowed_s * SECOND_NS)
        writer.config_version += 1
        writer.record(events[now - 4 : now], until_ns=T0_NS + now * MINUTE_NS, configure=True)
        told = slis(run(writer.log)[1])
        assert [(event.minute - T0, event.minute_sli.n) for event in told] == [(m, 1) for m in range(len(told))]
        closed.append(len(told))
    assert closed == [3, 3, 12]


def test_minutes_are_half_open():
    writer = LogWriter(bundle(objective()))
    edge_ns = T0_NS + MINUTE_NS
    minute_by_minute(writer, [[Event(edge_ns - 1)], [Event(edge_ns)], [], []])
    assert [event.minute_sli.n for event in slis(run(writer.log)[1])][:2] == [1, 1]


def test_every_minute_is_published_once_and_in_order():
    writer, minutes = story((30, 1))
    events = slis(run(writer.log)[1])
    assert [event.minute - T0 for event in events] == list(range(minutes))
    assert [event.window_sli.n for event in events] == [1000 * (i + 1) for i in range(len(events))]


def test_an_idle_service_says_no_data():
    writer, _ = story((3, -1))
    events = slis(run(writer.log)[1])
    assert len(events) == 3
    assert {event.minute_sli.ratio for event in events} == {None}


def test_coverage_is_the_share_of_closed_minutes_without_a_gap():
    writer, minute = story((10, 0), window_minutes=60)
    writer.record(until_ns=T0_NS + (minute + 3) * MINUTE_NS, lost=1)
    minute_by_minute(writer, [[]] * 70, start=minute + 3)
    coverage = {event.minute - T0: event.coverage for event in slis(run(writer.log)[1])}
    assert coverage[0] == 1 / 60
    assert coverage[9] == 10 / 60
    first_gap, last_gap = minute + 1, minute + 3
    assert coverage[first_gap - 1] == coverage[last_gap] == first_gap / 60
    assert coverage[last_gap + 60] == 1.0


def test_a_new_pipeline_publishes_at_most_six_hours_behind_its_frontier():
    writer = LogWriter(bundle(objective()))
    for _ in range(4):
        writer.record(until_ns=T0_NS + 10 * HOUR_NS)
    events = slis(run(writer.log)[1])
    assert events[0].minute == T0 + 4 * 60
    assert len(events) == 359


def test_quantiles_are_those_of_the_closed_minute():
    durations = [Event(T0_NS + i, duration_ns=(i + 1) * 1_000_000) for i in range(100)]
    writer = LogWriter(bundle(objective(), publish_sketches=True))
    minute_by_minute(writer, [durations, [], []])
    _, outputs = run(writer.log)
    first, second = slis(outputs)[:2]
    assert first.quantiles is not None
    assert first.quantiles["p50_s"] == pytest.approx(0.0505, abs=1e-3)
    assert second.quantiles is None
    (sketch,) = [o for o in outputs if isinstance(o, SketchEvent)]
    assert (sketch.service, sum(c["c"] for c in sketch.centroids)) == (SERVICE, 100)


def test_services_and_objectives_come_in_the_order_of_their_names():
    wanted = [objective(name, service=f"prod/-/{service}") for service in "ba" for name in ("y", "x")]
    writer = LogWriter(bundle(*wanted))
    minute_by_minute(writer, steady(3, 1))
    minute = [(e.objective.service[-1], e.objective.name) for e in slis(run(writer.log)[1]) if e.minute == T0]
    assert minute == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
