"""The states of an alert, and how its configuration is written."""

from fractions import Fraction

import pytest

from stream.core.slo.alerts import TRANSITIONS, Alert, Alerting, AlertState, AlertTrigger
from stream.core.slo.burn_rate import RULES, BurnRule, RuleKind, Severity

INACTIVE, PENDING, FIRING = AlertState.INACTIVE, AlertState.PENDING, AlertState.FIRING
PAGE = RULES[0]
SUSTAINED = BurnRule(
    name="page-5x", severity=Severity.PAGE, long_minutes=360, short_minutes=30, fixed_factor=Fraction(5), for_minutes=15
)


def run(rule, burning, cooldown_minutes=0):
    """Returns (minute, state) of each change; `burning` has one letter per minute: x burns, . does not, ? unknown."""
    alert = Alert()
    changes = []
    for minute, letter in enumerate(burning):
        state = alert.step(minute, {"x": True, ".": False, "?": None}[letter], rule, cooldown_minutes)
        if state is not None:
            changes.append((minute, state))
    return changes


def test_the_transition_table():
    assert TRANSITIONS == {
        (INACTIVE, AlertTrigger.BURNS): PENDING,
        (PENDING, AlertTrigger.HELD): FIRING,
        (PENDING, AlertTrigger.CLEAR): INACTIVE,
        (FIRING, AlertTrigger.COOLED): INACTIVE,
    }


def test_a_rule_that_need_not_wait_fires_within_the_minute():
    assert run(PAGE, "..xx..") == [(2, FIRING), (4, INACTIVE)]


def test_a_rule_that_waits_is_pending_first():
    assert run(SUSTAINED, "x" * 20) == [(0, PENDING), (15, FIRING)]


def test_a_break_in_the_burning_starts_the_wait_anew():
    assert run(SUSTAINED, "x" * 15 + "." + "x" * 16) == [(0, PENDING), (15, INACTIVE), (16, PENDING), (31, FIRING)]


def test_minutes_that_decide_nothing_neither_clear_nor_cool():
    assert run(PAGE, "x???x.") == [(0, FIRING), (5, INACTIVE)]
    assert run(PAGE, "x.??.", cooldown_minutes=2) == [(0, FIRING), (4, INACTIVE)]


def test_an_alert_that_flaps_within_its_cooldown_goes_on_firing():
    assert run(PAGE, "x.x.x...", cooldown_minutes=2) == [(0, FIRING), (7, INACTIVE)]


@pytest.mark.parametrize("at", range(12))
def test_an_alert_goes_on_where_it_was_written_down(at):
    letters = "xx.?x...x.xx"
    alert, restored = Alert(), Alert()
    for minute, letter in enumerate(letters):
        burning = {"x": True, ".": False, "?": None}[letter]
        assert alert.step(minute, burning, SUSTAINED, 2) == restored.step(minute, burning, SUSTAINED, 2)
        if minute == at:
            restored = Alert.load(alert.dump())
    assert alert == restored


def test_a_state_written_by_itself_is_read_too():
    assert Alert.load("firing") == Alert(FIRING, notified=True)


@pytest.mark.parametrize(
    "alerting",
    [
        Alerting(),
        Alerting(rules=(), at_least=True, low_traffic_guard=False, runbook="https://wiki/runbook", targets=("oncall",)),
        Alerting(rules=(SUSTAINED, PAGE), cooldown_minutes=5),
        Alerting(
            rules=(
                BurnRule(
                    name="left",
                    severity=Severity.TICKET,
                    long_minutes=60,
                    short_minutes=5,
                    kind=RuleKind.EXHAUSTION,
                    budget_hours=24,
                    inhibited_by=("page-5x",),
                ),
            )
        ),
    ],
)
def test_alerting_is_read_as_it_was_written(alerting):
    assert Alerting.load(alerting.dump()) == alerting
