"""Minutes close: indicators are published, alerts and certificates decided. Everything here is per closed minute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from stream.core.cells import Column
from stream.core.certificate.lifecycle import CertificateState, Trigger
from stream.core.columns import Array
from stream.core.engine.certificates import advance_certificates, change_certificate
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.state import SERIES, State
from stream.core.events import AlertEvent, AlertReading, Output, SketchEvent, SliEvent
from stream.core.sketch import quantiles, wire
from stream.core.slo.burn_rate import (
    TRANSITIONS,
    AlertState,
    BurnRule,
    burn_rate,
    burns,
    duration,
    explain,
    rules_for,
    window_lengths,
)
from stream.core.slo.sli import Budget, Sli, budget, sli
from stream.core.slo.spec import Objective
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, MINUTE_NS, minute_of

FIRST_CLOSE_MINUTES = 6 * HOUR_MINUTES
"""A new pipeline begins to publish at most this far behind its frontier."""

EVALUATIONS_PER_RECORD = 2000
"""Objectives and certificates evaluated at one record; further minutes wait for the next, so that a leap of the
frontier does not hold the worker up for longer than its group waits. At least one minute closes."""

BACKLOG_MAX_MINUTES = 8 * DAY_MINUTES
"""Longer than the log is kept."""

GAPS_KEPT_MINUTES = 100 * DAY_MINUTES


def close_minutes(state: State) -> list[Output]:
    """Closes the minutes that the frontier has left behind by the allowed lateness, in order."""
    frontier_ns = state.clocks.frontier_ns
    if frontier_ns is None:
        return []
    assert state.bundle is not None
    if state.next_minute is None:
        _begin(state)
    outputs: list[Output] = []
    lateness_ns = state.bundle.settings.allowed_lateness_ns
    _skip_backlog(state, frontier_ns)
    assert state.next_minute is not None
    for minute in range(state.next_minute, state.next_minute + _minutes_per_record(state)):
        if (minute + 1) * MINUTE_NS + lateness_ns > frontier_ns:
            break
        outputs += _close(state, minute)
    return outputs


def _minutes_per_record(state: State) -> int:
    evaluations = sum(len(service.objectives) + len(service.certificates) for service in state.services.values())
    return max(1, EVALUATIONS_PER_RECORD // max(1, evaluations))


def _skip_backlog(state: State, frontier_ns: int) -> None:
    """Marks what lies more than `BACKLOG_MAX_MINUTES` behind the frontier as a gap instead of closing its minutes.

    The frontier leaps so far only where a source stamped its messages wrongly or nothing ran for longer.
    """
    assert state.next_minute is not None
    first = minute_of(frontier_ns) - BACKLOG_MAX_MINUTES
    if first > state.next_minute:
        state.clocks.add_gap(state.next_minute, first)
        state.next_minute = first


def _begin(state: State) -> None:
    """The frontier is known for the first time: histories begin with the first minute that was read whole."""
    assert state.clocks.frontier_ns is not None
    history = state.clocks.history_start_minute(state.topics)
    state.next_minute = max(history, minute_of(state.clocks.frontier_ns) - FIRST_CLOSE_MINUTES)
    for service in state.services.values():
        for objective_state in service.states.values():
            objective_state.start_minute = max(objective_state.start_minute or 0, state.next_minute)
        state.changes.heads.add(service.key)


def expire(state: State) -> list[Output]:
    """Ends the certificates whose validity is over. `now` decides, so it goes on while catching up."""
    outputs: list[Output] = []
    for key in sorted(state.services):
        service = state.services[key]
        for _, certificate in sorted(service.certificates.items()):
            if (
                certificate.state is CertificateState.ISSUED
                and certificate.expires_ns is not None
                and certificate.expires_ns <= state.clocks.now_ns
            ):
                outputs += change_certificate(state, service, certificate, Trigger.VALIDITY_ENDED)
                state.changes.heads.add(key)
    return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closing:
    """One closed minute, and the sums of the windows that end with it (by length, for all series)."""

    minute: int
    catching_up: bool
    windows: dict[int, Array]

    def cell(self, length_minutes: int, row: int | None) -> list[int]:
        """Returns the summed cell of a series as exact integers; zeros for a series never counted."""
        if row is None:
            return [0] * len(Column)
        cell: list[int] = self.windows[length_minutes][:, row].tolist()
        return cell


def _close(state: State, minute: int) -> list[Output]:
    state.next_minute = minute + 1
    closing = _closing(state, minute)
    gap = state.clocks.gap_minutes(minute, minute + 1) > 0
    outputs: list[Output] = []
    for key in sorted(state.services):
        service = state.services[key]
        outputs += _close_service(state, service, closing, gap)
        outputs += _publish_revisions(state, service, closing.catching_up)
        if service.objectives:
            state.changes.heads.add(key)
    state.retired_minute = state.next_minute
    for cells in state.cells.values():
        cells.retire(state.retired_minute)
    if state.next_minute % HOUR_MINUTES == 0:
        state.changes.retired = True
        state.clocks.forget_gaps(state.next_minute - GAPS_KEPT_MINUTES)
    return outputs


def _closing(state: State, minute: int) -> _Closing:
    assert state.bundle is not None
    settings = state.bundle.settings
    closed_ns = (minute + 1) * MINUTE_NS + settings.allowed_lateness_ns
    objectives = [o for service in state.services.values() for o in service.objectives]
    lengths = {1, *(o.window_minutes for o in objectives)}
    lengths.update(length for o in objectives for length in window_lengths(o.window_minutes))
    cells = state.cells[SERIES]
    return _Closing(
        minute=minute,
        catching_up=state.clocks.now_ns - closed_ns > settings.catching_up_after_ns,
        windows={length: cells.window(minute + 1, length) for length in lengths},
    )


def _close_service(state: State, service: Service, closing: _Closing, gap: bool) -> list[Output]:
    assert state.bundle is not None
    minute = closing.minute
    digest, closed = service.sketches.close(minute)
    state.changes.closed_sketches.update((service.key, old) for old in closed)
    outputs: list[Output] = []
    for objective in service.objectives:
        objective_state = service.states[objective.digest]
        exemplars = objective_state.exemplars.close(minute)
        if objective_state.start_minute is None or minute < objective_state.start_minute:
            continue
        event = _sli_event(state, service, objective, closing, gap)
        event = replace(event, quantiles=quantiles(digest), exemplars=exemplars)
        state.latest[objective.digest] = event
        outputs.append(event)
        if not closing.catching_up:
            outputs += _advance_alerts(state, service, objective, closing)
    if digest is not None and state.bundle.settings.publish_sketches:
        outputs.append(SketchEvent(context=state.context(), service=service.key, minute=minute, centroids=wire(digest)))
    return outputs + advance_certificates(state, service, minute, closing.catching_up, gap)


def _sli_event(
    state: State,
    service: Service,
    objective: Objective,
    closing: _Closing,
    gap: bool,
    revision: int = 0,
) -> SliEvent:
    """Durations and trace ids that came late are not kept, so a correction has neither quantiles nor exemplars."""
    minute = closing.minute
    row = state.cells[SERIES].index.get((service.key, objective.digest, ""))
    window_cell = closing.cell(objective.window_minutes, row)
    coverage = _coverage(state, service.states[objective.digest], minute + 1, objective.window_minutes)
    return SliEvent(
        context=state.context(),
        objective=objective,
        minute=minute,
        revision=revision,
        minute_sli=sli(closing.cell(1, row)),
        window_sli=sli(window_cell),
        coverage=float(coverage),
        budget=budget(window_cell, objective.bad_ratio_max, coverage),
        burn_rates=tuple(
            (length, _rate(closing.cell(length, row), objective)) for length in window_lengths(objective.window_minutes)
        ),
        quantiles=None,
        catching_up=closing.catching_up,
        gap=gap,
    )


def _rate(cell: list[int], objective: Objective) -> float | None:
    rate = burn_rate(cell, objective.bad_ratio_max)
    return None if rate is None else float(rate)


def _coverage(state: State, objective_state: ObjectiveState, end_minute: int, length_minutes: int) -> Fraction:
    """Returns closed minutes without a gap ÷ minutes of the window."""
    first, last = objective_state.covered_minutes(end_minute, length_minutes)
    return Fraction(last - first - state.clocks.gap_minutes(first, last), length_minutes)


def _advance_alerts(state: State, service: Service, objective: Objective, closing: _Closing) -> list[Output]:
    """Runs the rules of an objective whose short window is covered."""
    objective_state = service.states[objective.digest]
    row = state.cells[SERIES].index.get((service.key, objective.digest, ""))
    outputs: list[Output] = []
    for rule in rules_for(objective.window_minutes):
        if _coverage(state, objective_state, closing.minute + 1, rule.short_minutes) < 1:
            continue
        long_cell, short_cell = closing.cell(rule.long_minutes, row), closing.cell(rule.short_minutes, row)
        long = burn_rate(long_cell, objective.bad_ratio_max)
        short = burn_rate(short_cell, objective.bad_ratio_max)
        factor = rule.factor(objective.window_minutes)
        burning = burns(long, short, factor)
        before = objective_state.alerts.get(rule.name, AlertState.INACTIVE)
        after = TRANSITIONS[before].get(burning) if burning is not None else None
        if after is None:
            continue
        assert long is not None
        assert short is not None
        objective_state.alerts[rule.name] = after
        window_cell = closing.cell(objective.window_minutes, row)
        coverage = _coverage(state, objective_state, closing.minute + 1, objective.window_minutes)
        left = budget(window_cell, objective.bad_ratio_max, coverage)
        reading = AlertReading(
            long_burn_rate=float(long),
            short_burn_rate=float(short),
            long_sli=sli(long_cell),
            short_sli=sli(short_cell),
            budget=left,
            coverage=float(coverage),
        )
        outputs.append(
            AlertEvent(
                context=state.context(),
                objective=objective,
                rule=rule,
                state=after,
                minute=closing.minute,
                factor=float(factor),
                reading=reading,
                explanation=_explanation(
                    explain(rule, factor, long, short, after is AlertState.FIRING)
                    + _inexactness(objective, reading.long_sli),
                    rule,
                    _coverage(state, objective_state, closing.minute + 1, rule.long_minutes),
                    left,
                ),
            )
        )
    return outputs


def _explanation(text: str, rule: BurnRule, observed: Fraction, left: Budget) -> str:
    """Returns what happened, how much of the long window was observed where it was not all, and the budget left."""
    if observed < 1:
        text += (
            f" Of the last {duration(rule.long_minutes)}, {float(observed * rule.long_minutes):g} min were observed."
        )
    if left.remaining_min_ratio is None or left.remaining_max_ratio is None:
        return text
    if left.remaining_min_ratio == left.remaining_max_ratio:
        return f"{text} {left.remaining_max_ratio:.1%} of the budget is left."
    return f"{text} At most {left.remaining_max_ratio:.1%} of the budget is left: its window is not covered yet."


def _inexactness(objective: Objective, long: Sli) -> str:
    """Returns how far the truth may be from the rates that were named; nothing where they are exact."""
    if not long.n_unsure or long.ratio_upper is None:
        return ""
    least = (1 - long.ratio_upper) / float(objective.bad_ratio_max)
    return (
        f" {long.n_unsure} of the {long.n} events lie in a bucket that holds the threshold and count as bad; if all of "
        f"them were good, the first rate is {least:.2f}."
    )


def _publish_revisions(state: State, service: Service, catching_up: bool) -> list[Output]:
    """Corrects the minutes that late rows changed, by a higher revision of the same id, once a minute.

    The windows of later minutes that are already published hold the late rows only from the next minute on.
    """
    outputs: list[Output] = []
    for objective in service.objectives:
        objective_state = service.states[objective.digest]
        for minute in sorted(objective_state.revised):
            revision = objective_state.revisions.get(minute, 0) + 1
            objective_state.revisions[minute] = revision
            closing = _reclosing(state, minute, objective, catching_up)
            gap = state.clocks.gap_minutes(minute, minute + 1) > 0
            outputs.append(_sli_event(state, service, objective, closing, gap, revision))
        objective_state.revised.clear()
        assert state.next_minute is not None
        horizon = state.next_minute - 2 * FIRST_CLOSE_MINUTES
        for minute in [m for m in objective_state.revisions if m < horizon]:
            del objective_state.revisions[minute]
    return outputs


def _reclosing(state: State, minute: int, objective: Objective, catching_up: bool) -> _Closing:
    lengths = {1, objective.window_minutes, *window_lengths(objective.window_minutes)}
    cells = state.cells[SERIES]
    windows = {length: cells.window(minute + 1, length) for length in lengths}
    return _Closing(minute=minute, catching_up=catching_up, windows=windows)
