"""Who is told of an alert and when: what holds it back, what does not, and how it ends."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from stream.core.engine import Engine
from stream.core.events import AlertEvent, StatusEvent
from stream.core.rendering import render
from stream.core.slo.alerts import Alerting, AlertState
from stream.core.slo.burn_rate import DEFAULT_RULES, BurnRule, RuleKind, Severity
from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment, Mute
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from tests.core.engine.hash_seeds import printed
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run
from tests.core.engine.slo_digest import log as rich_log
from tests.core.engine.slo_oracle import T0, fold

FIRING, INACTIVE, PENDING = AlertState.FIRING, AlertState.INACTIVE, AlertState.PENDING

FAST = BurnRule(
    name="fast", severity=Severity.PAGE, long_minutes=10, short_minutes=2, fixed_factor=Fraction(9), never_muted=True
)
SLOW = BurnRule(
    name="slow",
    severity=Severity.TICKET,
    long_minutes=30,
    short_minutes=10,
    fixed_factor=Fraction("1.5"),
    inhibited_by=("fast",),
)
ALONE = replace(SLOW, name="alone", inhibited_by=())


def alerting(*rules: BurnRule, **rest) -> Alerting:
    return Alerting(rules=rules, **rest)


def slo(*rules: BurnRule, **rest):
    """Returns an objective of 99 % with these rules; `rest` is how they are told."""
    return objective(window_minutes=120, alerting=alerting(*rules, **rest))


def minute(number: int, bad: int, of: int = 100, version: str = "v1") -> list[Event]:
    """Returns the events of a minute."""
    at_ns = T0_NS + number * MINUTE_NS + 1
    counts = ((of - bad, False), (bad, True))
    return [Event(at_ns, bad=b, count=n, weight=n * WEIGHT_ONE, version=version) for n, b in counts if n]


def written(body, chapters, *, start: int = 0, writer: LogWriter | None = None, lag_s: int = 0, **rest) -> LogWriter:
    """Writes chapters of (minutes, bad of 100) one after the other; -1 for no events."""
    writer = writer or LogWriter(body)
    bad = [share for minutes, share in chapters for _ in range(minutes)]
    batches = [minute(start + i, share, **rest) if share >= 0 else [] for i, share in enumerate(bad)]
    minute_by_minute(writer, batches, start=start, lag_s=lag_s)
    return writer


def told(log, rule: str) -> list[tuple[int, AlertState, str | None]]:
    """Returns (minute, state, what holds it back) of each event of a rule."""
    events = [o for o in run(log)[1] if isinstance(o, AlertEvent) and o.rule.name == rule]
    return [(e.minute - T0, e.state, None if e.held_back is None else str(e.held_back.by)) for e in events]


# Inhibition


@pytest.mark.parametrize("rules", [(FAST, SLOW), (SLOW, FAST)], ids=["inhibitor first", "inhibitor last"])
def test_an_alert_that_another_says_better_is_told_when_that_one_has_ended(rules):
    log = written(bundle(slo(*rules)), ((30, 0), (3, 100), (30, 8))).log
    fast, slow = told(log, "fast"), told(log, "slow")
    assert [(state, by) for _, state, by in fast] == [(FIRING, None), (INACTIVE, None)]
    assert slow[0] == (30, FIRING, "inhibited")
    assert slow[1] == (fast[1][0], FIRING, None)


def test_an_alert_that_no_longer_burns_is_not_told_late():
    """It only cools down when what held it back ends."""
    log = written(bundle(slo(FAST, SLOW, cooldown_minutes=15)), ((30, 0), (3, 100), (60, 0))).log
    assert [(state, by) for _, state, by in told(log, "slow")] == [(FIRING, "inhibited"), (INACTIVE, "not-told-before")]


# Mutes


def muted(start: int, end: int, services=()) -> Mute:
    return Mute(name="window", services=services, start_minute=T0 + start, end_minute=T0 + end)


def test_a_mute_holds_back_until_it_is_over_and_never_what_must_not_be_muted():
    body = replace(bundle(slo(FAST, ALONE)), mutes=(muted(20, 45),))
    log = written(body, ((30, 0), (40, 60))).log
    assert told(log, "fast")[0][2] is None
    assert told(log, "alone") == [(30, FIRING, "muted"), (45, FIRING, None)]


def test_a_muted_alert_that_ends_within_the_mute_is_told_to_nobody():
    body = replace(bundle(slo(ALONE)), mutes=(muted(20, 100),))
    log = written(body, ((30, 0), (3, 60), (40, 0))).log
    assert [by for _, _, by in told(log, "alone")] == ["muted", "not-told-before"]


def test_a_mute_of_another_service_mutes_nothing():
    body = replace(bundle(slo(ALONE)), mutes=(muted(0, 100, ("prod/shop/other",)),))
    assert told(written(body, ((30, 0), (5, 60))).log, "alone")[0][2] is None


@pytest.mark.parametrize(("declared", "held_minutes"), [(10, 10), (500, 30), (0, 0)])
def test_a_deploy_holds_back_for_as_long_as_declared_and_at_most_half_an_hour(declared, held_minutes):
    writer = written(bundle(slo(FAST, ALONE, deploy_mute_minutes=declared)), ((30, 0),))
    written(None, ((60, 60),), start=30, writer=writer, version="v2")
    log = writer.log
    assert told(log, "fast")[0][2] is None
    alone = told(log, "alone")
    if not held_minutes:
        assert [by for _, _, by in alone] == [None]
        return
    assert [by for _, _, by in alone] == ["deploy", None]
    seen = 29  # the rows of v2 are read before minute 29 closes
    assert alone[1][0] == seen + held_minutes


# How often


def test_further_alerts_of_a_service_wait_when_enough_was_told_within_the_hour():
    rules = [replace(ALONE, name=f"r{i}") for i in range(3)]
    body = bundle(slo(*rules, FAST), notifications_per_hour_max=2)
    log = written(body, ((30, 0), (90, 60))).log
    fired = [told(log, rule.name) for rule in rules]
    assert [[by for _, _, by in events] for events in fired] == [[None], [None], ["rate-cap", None]]
    assert fired[2][1][0] == fired[1][0][0] + 60
    assert told(log, "fast")[0][2] is None


# Ends


@pytest.mark.parametrize("notify", [True, False])
def test_people_hear_of_an_end_where_they_want_to_and_heard_of_the_beginning(notify):
    log = written(bundle(slo(ALONE, notify_resolved=notify)), ((30, 0), (3, 60), (40, 0))).log
    assert [by for _, _, by in told(log, "alone")] == [None, None if notify else "not-told-before"]


def test_an_end_says_when_the_alert_began():
    outputs = run(written(bundle(slo(ALONE)), ((30, 0), (3, 60), (40, 0))).log)[1]
    assert [o.began_minute for o in outputs if isinstance(o, AlertEvent)] == [T0 + 30, T0 + 30]


def reconfigured(before, after, minutes: int = 10) -> LogWriter:
    """Writes an outage in the midst of which another configuration comes."""
    writer = written(before, ((30, 0), (5, 100)))
    writer.bundle, writer.config_version = after, 1
    writer.record(configure=True, now_ns=T0_NS)
    return written(None, ((minutes, 100),), start=35, writer=writer)


def test_an_alert_whose_rule_is_removed_while_it_fires_is_over_and_told():
    before, after = bundle(slo(FAST, SLOW)), bundle(slo(SLOW))
    log = reconfigured(before, after).log
    fast, slow = told(log, "fast"), told(log, "slow")
    assert [(state, by) for _, state, by in fast] == [(FIRING, None), (INACTIVE, None)]
    assert [by for _, _, by in slow] == ["inhibited", None]  # nothing inhibits it any more
    engine, outputs = run(log)
    (state,) = engine.services[SERVICE].states.values()
    assert set(state.alerts) == {"slow"}
    statuses = [o for o in outputs if isinstance(o, StatusEvent)]
    assert [rule.name for rule, *_ in statuses[-1].alerts] == ["slow"]


def test_a_rule_that_no_longer_fits_ends_its_alert():
    """Availability only, on an objective of durations."""
    quick = objective(duration_lte_ns=500_000, window_minutes=120)
    before = bundle(replace(quick, alerting=alerting(ALONE)))
    after = bundle(replace(quick, alerting=alerting(replace(ALONE, availability_only=True))))
    log = reconfigured(before, after).log
    assert [state for _, state, _ in told(log, "alone")] == [FIRING, INACTIVE]


def test_an_edit_of_how_alerts_are_told_keeps_history_and_state():
    before, after = bundle(slo(ALONE)), bundle(slo(ALONE, runbook="https://wiki/runbook"))
    log = reconfigured(before, after).log
    assert [state for _, state, _ in told(log, "alone")] == [FIRING]
    engine, _ = run(log)
    (state,) = engine.services[SERVICE].states.values()
    assert state.start_minute == T0
    assert state.alerts["alone"].began_minute == T0 + 30


@pytest.mark.parametrize("notify", [True, False])
def test_the_end_of_a_withdrawn_objective_is_told_as_any_other(notify):
    log = reconfigured(bundle(slo(ALONE, notify_resolved=notify)), bundle()).log
    assert [(state, by) for _, state, by in told(log, "alone")] == [
        (FIRING, None),
        (INACTIVE, None if notify else "not-told-before"),
    ]


# When a rule burns


@pytest.mark.parametrize(("at_least", "fires"), [(True, True), (False, False)])
def test_a_burn_rate_of_exactly_the_factor_fires_only_with_at_least(at_least, fires):
    """14.4 % of errors at 99 % burn exactly 14.4 times. Source: acceptance vector A5."""
    rule = replace(FAST, fixed_factor=Fraction("14.4"))
    log = written(bundle(slo(rule, at_least=at_least)), ((20, 144),), of=1000).log
    assert bool(told(log, "fast")) == fires


def test_one_failure_in_a_trickle_of_requests_does_not_call_and_a_total_outage_of_it_does():
    """Ten requests an hour. One failure of sixty burns 3.3 times at 99.5 %, which chance does, too: its lower bound is
    0.6 times. That everything fails is none."""
    rule = BurnRule(
        name="ticket", severity=Severity.TICKET, long_minutes=360, short_minutes=30, fixed_factor=Fraction(3)
    )

    def fired(guard: bool, failing: range) -> bool:
        slo_ = objective(target="0.995", alerting=alerting(rule, low_traffic_guard=guard))
        writer = LogWriter(bundle(slo_))
        minute_by_minute(writer, [minute(i, int(i in failing), 1) if i % 6 == 0 else [] for i in range(420)])
        return bool(told(writer.log, "ticket"))

    assert fired(False, range(360, 361))
    assert not fired(True, range(360, 361))
    assert fired(True, range(330, 420))


def test_a_rule_that_waits_is_pending_first_and_its_break_is_told_to_nobody():
    rule = replace(ALONE, for_minutes=15)
    log = written(bundle(slo(rule)), ((30, 0), (3, 60), (40, 0), (30, 60))).log
    events = told(log, "alone")
    assert [(state, by) for _, state, by in events] == [
        (PENDING, "pending"),
        (INACTIVE, "not-told-before"),
        (PENDING, "pending"),
        (FIRING, None),
    ]
    assert events[3][0] - events[2][0] == 15


EXHAUSTION = next(rule for rule in DEFAULT_RULES if rule.kind is RuleKind.EXHAUSTION)


@pytest.mark.parametrize(("spent", "factor"), [(Fraction(0), 30), (Fraction(1, 2), 15), (Fraction(9, 10), 3)])
def test_the_rest_of_the_budget_gone_within_a_day_is_30_15_and_3_times_with_all_half_and_a_tenth_left(spent, factor):
    """Of a budget of 30 days: what is left ÷ what a day of it is."""
    assert EXHAUSTION.factor(43_200, 1 - spent) == factor


def test_exhaustion_ends_with_the_burning_also_when_no_budget_is_left():
    """A budget of two hours is gone within minutes; what is left of it gives no factor any more."""
    rule = replace(EXHAUSTION, name="gone", long_minutes=10, short_minutes=2, budget_hours=1)
    log = written(bundle(slo(rule)), ((100, 0), (20, 60), (20, 0))).log
    assert [state for _, state, _ in told(log, "gone")] == [FIRING, INACTIVE]


@pytest.mark.parametrize(("minutes", "fires"), [(600, True), (160, False)])
def test_a_budget_that_is_renewed_before_it_would_be_gone_is_not_about_to_be_gone(minutes, fires):
    """From minute 100 on at twice the rate allowed: a period of 600 has 300 min of that in it, one of 160 has 80."""
    rule = replace(EXHAUSTION, name="gone", long_minutes=10, short_minutes=2)
    body = replace(
        bundle(objective(target="0.9", window_minutes=minutes, calendar="c", alerting=alerting(rule))),
        calendars=(Calendar(name="c", boundaries=(T0, T0 + minutes)),),
    )
    log = written(body, ((100, 0), (30, 20))).log
    assert bool(told(log, "gone")) == fires


def test_rules_for_availability_skip_objectives_of_durations():
    rule = replace(ALONE, availability_only=True)
    for fires, limit_ns in ((True, None), (False, 1)):
        slo_ = objective(window_minutes=120, alerting=alerting(rule), duration_lte_ns=limit_ns)
        log = written(bundle(slo_), ((40, 60),)).log
        assert bool(told(log, "alone")) == fires


# Evidence


def test_a_service_that_falls_silent_is_told_once_and_again_when_events_come_back():
    log = written(bundle(objective()), ((10, 0), (90, -1), (3, 0))).log
    assert [(at, state) for at, state, _ in told(log, "ticket-no-data")] == [(69, FIRING), (100, INACTIVE)]


def test_an_objective_that_never_had_an_event_is_not_told_as_silent():
    assert not told(written(bundle(objective()), ((120, -1),)).log, "ticket-no-data")


def test_silence_that_an_adjustment_explains_is_not_told():
    planned = Adjustment(name="move", objectives=("availability",), start_minute=T0 + 9, end_minute=T0 + 100)
    body = replace(bundle(objective()), adjustments=(planned,))
    assert not told(written(body, ((10, 0), (90, -1), (30, 0))).log, "ticket-no-data")


def test_minutes_that_were_not_read_whole_are_told_until_an_hour_has_passed():
    writer = written(bundle(objective()), ((70, 0),))
    writer.record(until_ns=T0_NS + 71 * MINUTE_NS, lost=9)
    written(None, ((80, 0),), start=71, writer=writer)
    # The two minutes of the loss are 70 and 71.
    assert [(at, state) for at, state, _ in told(writer.log, "ticket-evidence-gap")] == [(70, FIRING), (131, INACTIVE)]


def test_nothing_fires_resolves_or_is_told_late_while_catching_up():
    body = replace(bundle(slo(ALONE)), mutes=(muted(20, 40),))
    writer = written(body, ((30, 0), (5, 60)))
    written(None, ((30, 0),), start=35, writer=writer, lag_s=600)
    assert told(writer.log, "alone") == [(30, FIRING, "muted")]


# Determinism


@pytest.mark.parametrize("restored_after", [29, 31, 32, 33, 34, 44, 60])
def test_a_restore_changes_nobodys_notification(restored_after):
    body = replace(bundle(slo(FAST, SLOW, ALONE, cooldown_minutes=3)), mutes=(muted(20, 45),))
    writer = written(body, ((30, 0), (3, 100), (30, 8), (20, 0)))
    assert fold(writer.log)[1] == fold(writer.log, restored_after)[1]


def test_every_way_to_keep_a_budget_puts_out_the_same_bytes_under_any_hash_seed():
    assert len(printed("slo_digest.py", ("0", "1"))) == 1


@pytest.mark.parametrize("restored_after", [31, 50, 118])
def test_every_way_to_keep_a_budget_goes_on_after_a_restore(restored_after):
    assert fold(rich_log())[1] == fold(rich_log(), restored_after)[1]


def test_an_objective_whose_history_begins_later_has_no_status_yet():
    """Whether or not this process has seen it before: a status is that of the last minute that closed."""
    writer = written(bundle(objective(window_minutes=120)), ((5, 0),))
    writer.bundle = bundle(objective(window_minutes=120), objective("new", window_minutes=120))
    writer.config_version = 1
    writer.record(configure=True, now_ns=T0_NS)
    written(None, ((10, 0),), start=5, writer=writer)
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(writer.log):
        for output in engine.apply(offset, time_ns, value):
            if isinstance(output, StatusEvent):
                assert engine.state.next_minute == output.sli.minute + 1


# What is said


def test_an_alert_is_about_the_version_that_fails_now_and_not_about_one_that_failed_before():
    """The first incident has more of the long window's failures than the second, which another version brings."""
    writer = written(bundle(slo(ALONE)), ((30, 0),))
    written(None, ((8, 100), (12, 0)), start=30, writer=writer, version="v2")
    written(None, ((12, 25),), start=50, writer=writer, version="v3")
    fired = [o for o in run(writer.log)[1] if isinstance(o, AlertEvent) and o.state is FIRING]
    assert [event.version for event in fired] == ["v2", "v3"]


def test_an_alert_says_when_the_budget_is_gone_and_since_when_the_version_it_began_with_is_there():
    writer = written(bundle(slo(ALONE)), ((90, 0),))
    written(None, ((10, 60), (40, 0)), start=90, writer=writer, version="v2")
    events = [o for o in run(writer.log)[1] if isinstance(o, AlertEvent)]
    began, ended = [json.loads(render(event).value)["data"] for event in events]
    assert (began["state"], began["version"], began["beyond_chance"]) == ("firing", "v2", True)
    deployed_minute = events[0].deployed_minute
    assert deployed_minute is not None
    assert T0 + 89 <= deployed_minute <= T0 + 90  # the rows of the open minute are known
    low, high = began["forecast"]["interval_80_hours"]
    assert low is not None
    assert high is None or low <= high
    assert "By the forecast it is gone in" in began["explanation"]
    assert (ended["state"], ended["version"], ended["deployed_at"]) == ("resolved", "v2", began["deployed_at"])
    assert ended["forecast"] is None


def test_an_alert_about_no_version_does_not_say_when_one_was_deployed():
    """Half of the failures are of each of two versions, of which the later one has no name."""
    writer = written(bundle(slo(ALONE)), ((30, 0),))
    both = [minute(i, 50, version="v1") + minute(i, 50, version="") for i in range(30, 50)]
    minute_by_minute(writer, both, start=30)
    fired = next(o for o in run(writer.log)[1] if isinstance(o, AlertEvent) and o.state is FIRING)
    data = json.loads(render(fired).value)["data"]
    assert (data["version"], data["deployed_at"]) == (None, None)


def test_the_end_of_a_withdrawn_objective_says_what_its_beginning_said_of_the_version():
    writer = written(bundle(slo(ALONE)), ((90, 0),))
    written(None, ((10, 60),), start=90, writer=writer, version="v2")
    writer.bundle, writer.config_version = bundle(), 1
    writer.record(configure=True, until_ns=T0_NS + 101 * MINUTE_NS)
    events = [o for o in run(writer.log)[1] if isinstance(o, AlertEvent)]
    began, ended = [json.loads(render(event).value)["data"] for event in events]
    assert (began["state"], ended["state"], began["version"]) == ("firing", "resolved", "v2")
    assert (ended["version"], ended["deployed_at"]) == (began["version"], began["deployed_at"])
    assert ended["deployed_at"] is not None
