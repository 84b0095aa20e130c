"""The alerts of an objective at a closed minute: what burns, who is told, and what is said."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from stream.core.cells import Column
from stream.core.engine.composites import causes_of
from stream.core.engine.expectations import missing_at_least, missing_of_window, other_of, told_late
from stream.core.engine.forecasting import forecast_of
from stream.core.engine.services import Service
from stream.core.engine.state import State
from stream.core.engine.suspects import suspect_of
from stream.core.engine.windows import Reader
from stream.core.events import AlertEvent, HeldBack, HeldBackBy, Output
from stream.core.exemplars import Exemplars
from stream.core.slo.alerts import DEPLOY_MUTE_MINUTES_MAX, Alert, AlertState
from stream.core.slo.burn_rate import RULES, BurnRule, RuleKind, burn_rate, burns, rules_for
from stream.core.slo.explanation import AlertReading, explain
from stream.core.slo.sli import budget, remaining, sli
from stream.core.slo.spec import Objective
from stream.core.statistics.forecast import Forecast
from stream.core.units import HOUR_MINUTES

_BURNING = (RuleKind.BURN_RATE, RuleKind.EXHAUSTION)


def advance_alerts(state: State, service: Service, reader: Reader, exemplars: Exemplars | None) -> list[Output]:
    """Runs the rules of an objective whose short window is covered. Returns an event for each change.

    An alert that burns and was held back is told once nothing holds it back any more. Who is told is decided when all
    rules have been looked at: whichever comes first, one may hold back the other.
    """
    alerts, minute = reader.own.alerts, reader.closing.minute
    moved: list[tuple[BurnRule, Alert, bool]] = []
    for rule in rules_of(reader.objective):
        alert = alerts.get(rule.name)
        burning = _burning(state, reader, rule, alert)
        if alert is None:
            if not burning:
                continue
            alert = alerts[rule.name] = Alert()
        changed = alert.step(minute, burning, rule, reader.objective.alerting.cooldown_minutes) is not None
        untold = alert.state is AlertState.FIRING and alert.clear_since is None and not alert.notified
        if changed or untold:
            moved.append((rule, alert, changed))
    outputs: list[Output] = []
    for rule, alert, changed in moved:
        held_back = _held_back(state, service, reader, rule, alert)
        if changed or held_back is None:
            outputs.append(_event(state, service, reader, rule, alert, held_back, exemplars))
    return outputs


def end_alerts(
    state: State, objective: Objective, alerts: dict[str, Alert], kept: Collection[str], explanation: str
) -> list[Output]:
    """Forgets the alerts of an objective whose rules are not `kept`, and says that those which were active are over."""
    outputs: list[Output] = []
    for rule in objective.alerting.rules:
        alert = alerts.pop(rule.name, None) if rule.name not in kept else None
        if alert is None or alert.state is AlertState.INACTIVE:
            continue
        outputs.append(
            AlertEvent(
                context=state.context(),
                objective=objective,
                rule=rule,
                state=AlertState.INACTIVE,
                minute=(state.next_minute or 0) - 1,
                factor=None,
                reading=None,
                explanation=explanation,
                held_back=_end_held_back(alert, objective),
                began_minute=alert.began_minute,
                version=alert.version,
                deployed_minute=_deployed_minute(state.services[objective.service], alert.version),
            )
        )
    return outputs


def rules_of(objective: Objective) -> tuple[BurnRule, ...]:
    """Returns the rules that can fire for an objective."""
    rules = rules_for(objective.window_minutes, objective.alerting.rules)
    availability = objective.duration_lte_ns is None and objective.threshold is None
    return tuple(rule for rule in rules if availability or not rule.availability_only)


def _burning(state: State, reader: Reader, rule: BurnRule, alert: Alert | None) -> bool | None:
    """Returns whether a rule burns; None where that cannot be said. Almost always decided on two integers."""
    own, closing = reader.own, reader.closing
    active = alert is not None and alert.state is not AlertState.INACTIVE
    if rule.kind is RuleKind.EVIDENCE_GAP:
        return reader.gap_minutes(rule.long_minutes) > 0 or _may_hide_a_page(state, reader, rule)
    if rule.kind is RuleKind.NO_DATA:
        rows = [row for row in {reader.row, reader.events_row} if row is not None]
        if not own.has_data or reader.observed(rule.long_minutes) < rule.long_minutes:
            return None
        weights = closing.weights(rule.long_minutes)[0]
        return all(weights[row] == 0 for row in rows)
    if rule.kind is RuleKind.COHORT_GAP:
        return _is_behind(reader, rule, active)
    if reader.row is None:
        return None
    if not active and _is_quiet(reader, rule.short_minutes):
        return False  # before what costs more: covered or not, it does not burn
    if not reader.is_covered(rule.short_minutes):
        return None
    objective = reader.objective
    long_cell = reader.window(rule.long_minutes)
    long = burn_rate(long_cell, objective.bad_ratio_max)
    short = burn_rate(reader.window(rule.short_minutes), objective.bad_ratio_max)
    factor = _factor(state, reader, rule)
    if factor is None and active:
        factor = Fraction(1)  # no budget is left to reckon with: the alert ends with the burning
    burning = burns(long, short, factor, objective.alerting.at_least)
    if burning and not active and objective.alerting.low_traffic_guard:
        return _is_beyond_chance(long_cell, reader)
    return burning


def _may_hide_a_page(state: State, reader: Reader, rule: BurnRule) -> bool:
    """Returns whether so many events of the long window never came that the fastest page would burn if they were bad,
    or half of all. Fewer are in the bounds of the budget, and what of them is chance would call people for nothing."""
    objective, end = reader.objective, reader.closing.minute + 1
    missing = _never_came(state, reader, rule.long_minutes)
    if not missing:
        return False
    whole = missing + reader.between(end - rule.long_minutes, end)[Column.WEIGHT]
    burning = RULES[0].factor(objective.window_minutes) or Fraction(1)
    return missing > whole * min(burning * objective.bad_ratio_max, Fraction(1, 2))


def _never_came(state: State, reader: Reader, length_minutes: int) -> int:
    """Returns the weight of the events of a window that must have been there, at least; 0 unless all of its minutes,
    and those of which it may tell late, were read whole, in the history of whatever tells how many there were."""
    service, objective, end = reader.service, reader.objective, reader.closing.minute + 1
    first = end - length_minutes
    missing = missing_at_least(state, service, objective, (first, end))
    reach = length_minutes + told_late(service, objective)
    if missing <= 0 or reader.gap_minutes(reach):
        return 0
    other = other_of(service, objective)
    histories = [reader.own, *([] if other is None else [service.states[other.digest]])]
    return missing if all(own.covered_minutes(end, reach)[0] == end - reach for own in histories) else 0


def _is_behind(reader: Reader, rule: BurnRule, active: bool) -> bool | None:
    """Returns whether a cohort is worse than everyone by more than it may be; to begin with, not by chance."""
    assert rule.gap_max is not None
    if not reader.is_covered(rule.short_minutes) or reader.events_row is None:
        return None
    if not active and _is_share_within(reader, reader.events_row, rule.short_minutes, rule.gap_max):
        return False
    long, short = reader.cohort_gap(rule.long_minutes), reader.cohort_gap(rule.short_minutes)
    if long is None or short is None:
        return None
    behind = min(long.ratio, short.ratio) > rule.gap_max
    return behind and (active or not reader.objective.alerting.low_traffic_guard or long.low > rule.gap_max)


def _is_quiet(reader: Reader, short_minutes: int) -> bool:
    """Returns whether the short window, which has data, burns at most as fast as the budget allows: no rule burns
    then. What adjustments exclude could only make it quieter, or leave no data."""
    assert reader.row is not None
    return _is_share_within(reader, reader.row, short_minutes, reader.objective.bad_ratio_max)


def _is_share_within(reader: Reader, row: int, minutes: int, share: Fraction) -> bool:
    """Returns whether the share of what is bad in a window is below one, for certain: two products of integers tell."""
    weights, weights_bad = reader.closing.weights(minutes)
    return weights_bad[row] * share.denominator < weights[row] * share.numerator and not reader.own.excluded


def _is_beyond_chance(cell: list[int], reader: Reader) -> bool:
    """Returns whether the lower 95 % bound of the burn rate exceeds 1: a few failures of little traffic may be chance.

    A least number of events would hide a total outage of a quiet service; this does not.
    """
    interval = sli(cell, reader.unit).interval
    return interval is not None and 1 - interval[1] > reader.objective.bad_ratio_max


def _factor(state: State, reader: Reader, rule: BurnRule) -> Fraction | None:
    if rule.kind is not RuleKind.EXHAUSTION:
        return rule.factor(reader.objective.window_minutes)
    missing = missing_of_window(state, reader)
    left = remaining(reader.budget_window(), reader.objective.bad_ratio_max, reader.coverage(), missing)
    # While the window is not covered the most that can be left is taken: a page must not come from what nobody saw.
    return rule.factor(reader.window_minutes, None if left is None else left[1], reader.renewed_in_minutes)


def _held_back(state: State, service: Service, reader: Reader, rule: BurnRule, alert: Alert) -> HeldBack | None:
    """Returns what keeps people from being told; None: they are told. A pending alert is told to nobody."""
    assert state.bundle is not None
    minute, alerting = reader.closing.minute, reader.objective.alerting
    if alert.state is AlertState.PENDING:
        return HeldBack(by=HeldBackBy.PENDING, name=f"{rule.for_minutes}m")
    if alert.state is AlertState.INACTIVE:
        return _end_held_back(alert, reader.objective)
    if rule.never_muted:
        return None
    alerts = reader.own.alerts
    firing = [n for n in rule.inhibited_by if n in alerts and alerts[n].state is AlertState.FIRING]
    if firing:
        return HeldBack(by=HeldBackBy.INHIBITED, name=firing[0])
    for mute in state.bundle.mutes:
        if mute.covers(service.key, minute):
            return HeldBack(by=HeldBackBy.MUTED, name=mute.name)
    mute_minutes = min(alerting.deploy_mute_minutes, DEPLOY_MUTE_MINUTES_MAX)
    deployed = [v for v, first in service.deploys() if minute - mute_minutes < first <= minute]
    if mute_minutes and deployed:
        return HeldBack(by=HeldBackBy.DEPLOY, name=deployed[-1])
    if len(service.told_within(minute, HOUR_MINUTES)) >= state.bundle.settings.notifications_per_hour_max:
        return HeldBack(by=HeldBackBy.RATE_CAP, name=f"{state.bundle.settings.notifications_per_hour_max}/h")
    return None


def _end_held_back(alert: Alert, objective: Objective) -> HeldBack | None:
    told = alert.notified and objective.alerting.notify_resolved
    return None if told else HeldBack(by=HeldBackBy.NOT_TOLD_BEFORE, name="")


def _event(
    state: State,
    service: Service,
    reader: Reader,
    rule: BurnRule,
    alert: Alert,
    held_back: HeldBack | None,
    exemplars: Exemplars | None,
) -> AlertEvent:
    minute = reader.closing.minute
    if alert.state is AlertState.FIRING:
        # Of the short window: what an earlier incident of the hour was to blame on is not what burns now.
        suspect = suspect_of(state, service, reader, rule.short_minutes)
        alert.version = suspect.version if suspect is not None else ""
        if held_back is None:
            alert.notified = True
            service.told = [*service.told_within(minute, HOUR_MINUTES), minute]
    else:
        suspect = None
    since = suspect.first_seen_minute if suspect is not None else _deployed_minute(service, alert.version)
    factor = _factor(state, reader, rule)
    burning = rule.kind in _BURNING and alert.state is not AlertState.INACTIVE
    reading = _read(state, reader, rule, forecast_of(state, reader) if burning else None)
    causes = causes_of(state, reader, rule.long_minutes, rule.short_minutes) if burning else ()
    event = AlertEvent(
        context=state.context(),
        objective=reader.objective,
        rule=rule,
        state=alert.state,
        minute=minute,
        factor=None if factor is None else float(factor),
        reading=reading,
        explanation=explain(reader.objective, rule, alert.state, reading, factor, suspect, causes),
        held_back=held_back,
        began_minute=alert.began_minute,
        version=alert.version,
        deployed_minute=since,
        exemplars=exemplars,
        causes=causes,
    )
    if alert.state is AlertState.INACTIVE:
        alert.notified, alert.version = False, ""
    return event


def _deployed_minute(service: Service, version: str) -> int | None:
    """Returns when a version appeared; None for the first, and where none is under suspicion."""
    return dict(service.deploys()).get(version) if version else None


def _read(state: State, reader: Reader, rule: BurnRule, coming: Forecast | None) -> AlertReading:
    allowed = reader.objective.bad_ratio_max
    long_cell, short_cell = reader.window(rule.long_minutes), reader.window(rule.short_minutes)
    long, short = burn_rate(long_cell, allowed), burn_rate(short_cell, allowed)
    coverage = reader.coverage()
    missing = _never_came(state, reader, rule.long_minutes) if rule.kind is RuleKind.EVIDENCE_GAP else 0
    return AlertReading(
        long_burn_rate=None if long is None else float(long),
        short_burn_rate=None if short is None else float(short),
        long_sli=sli(long_cell, reader.unit, missing),
        short_sli=sli(short_cell, reader.unit),
        long_coverage=float(reader.coverage_of(rule.long_minutes)),
        budget=budget(reader.budget_window(), allowed, coverage, missing_of_window(state, reader)),
        coverage=float(coverage),
        window_minutes=reader.window_minutes,
        renewed_in_minutes=reader.renewed_in_minutes,
        cohort_gap=reader.cohort_gap(rule.long_minutes) if rule.kind is RuleKind.COHORT_GAP else None,
        forecast=coming,
        compared_minutes=reader.compared_minutes(rule.long_minutes),
    )
