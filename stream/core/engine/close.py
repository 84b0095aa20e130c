"""Minutes close: indicators are published, budgets kept, alerts and certificates decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stream.core.certificate.lifecycle import CertificateState, Trigger
from stream.core.engine.alerting import advance_alerts, end_alerts
from stream.core.engine.budgets import advance_budget, enter_deploys
from stream.core.engine.certificates import advance_certificates, change_certificate
from stream.core.engine.clocks import Clocks
from stream.core.engine.composites import begin_histories, book_composites, calls_of, shares_of
from stream.core.engine.expectations import missing_of_window
from stream.core.engine.overflow import IDLE_MINUTES
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.slices import book_slices
from stream.core.engine.state import State
from stream.core.engine.windows import Closing, Reader, close_versions, close_windows, settle
from stream.core.events import Output, SketchEvent, SliEvent, StatusEvent, StatusGone
from stream.core.exemplars import Exemplars
from stream.core.sketch import quantiles as quantiles_of
from stream.core.sketch import wire
from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import duration, window_lengths
from stream.core.slo.sli import budget, sli
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
    if state.next_minute is None:
        begin(state)
    return close_until(state, (frontier_ns - state.lateness_ns) // MINUTE_NS)


def close_until(state: State, until_minute: int) -> list[Output]:
    """Closes the minutes before one, in order; not all of them at one record where they are many."""
    outputs: list[Output] = []
    _skip_backlog(state)
    assert state.next_minute is not None
    before = state.next_minute
    for minute in range(before, min(until_minute, before + _minutes_per_record(state))):
        outputs += _close(state, minute)
    if state.next_minute > before:
        outputs += _statuses(state)
    return outputs


def _minutes_per_record(state: State) -> int:
    evaluations = sum(len(service.objectives) + len(service.certificates) for service in state.services.values())
    evaluations += 0 if state.heard is None else len(state.heard.asking)
    return max(1, EVALUATIONS_PER_RECORD // max(1, evaluations))


def _skip_backlog(state: State) -> None:
    """Marks what lies more than `BACKLOG_MAX_MINUTES` behind the frontier as a gap instead of closing its minutes.

    The frontier leaps so far only where a source stamped its messages wrongly or nothing ran for longer.
    """
    assert state.next_minute is not None
    assert state.clocks.frontier_ns is not None
    first = minute_of(state.clocks.frontier_ns) - BACKLOG_MAX_MINUTES
    if first > state.next_minute:
        state.add_gap(state.next_minute, first)
        state.next_minute = first


def begin(state: State) -> None:
    """The frontier is known for the first time: histories begin with the first minute that was read whole."""
    state.next_minute = first_to_close(state.clocks, state.topics)
    for service in state.services.values():
        for objective_state in service.states.values():
            objective_state.start_minute = max(objective_state.start_minute or 0, state.next_minute)
        state.changes.heads.add(service.key)


def first_to_close(clocks: Clocks, topics: Iterable[str]) -> int:
    """Returns the first minute that closes, when the frontier over some topics is known for the first time."""
    assert clocks.frontier_ns is not None
    return max(clocks.history_start_minute(topics), minute_of(clocks.frontier_ns) - FIRST_CLOSE_MINUTES)


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


def _close(state: State, minute: int) -> list[Output]:
    assert state.bundle is not None
    state.next_minute = minute + 1
    closed_ns = (minute + 1) * MINUTE_NS + state.lateness_ns
    catching_up = state.clocks.now_ns - closed_ns > state.bundle.settings.catching_up_after_ns
    state.hand_over()
    begin_histories(state, minute)
    book_composites(state, minute)
    book_slices(state, minute)
    objectives = [o for service in state.services.values() for o in service.objectives]
    closing = close_windows(state, minute, catching_up, objectives)
    versions = close_versions(state, minute, catching_up, objectives)
    outputs: list[Output] = []
    for key in sorted(state.services):
        service = state.services[key]
        outputs += _close_service(state, service, closing)
        outputs += advance_certificates(state, service, closing, versions)
    outputs += _publish_revisions(state, objectives, catching_up)
    state.retired_minute = state.next_minute
    state.retire_cells()
    if state.next_minute % HOUR_MINUTES == 0:
        state.forget_gaps(state.next_minute - GAPS_KEPT_MINUTES)
    return outputs


def _close_service(state: State, service: Service, closing: Closing) -> list[Output]:
    assert state.bundle is not None
    minute = closing.minute
    digest, closed = service.sketches.close(minute)
    state.changes.closed_sketches.update((service.key, old) for old in closed)
    if service.objectives or len(service.first_seen) < len(service.versions):
        state.changes.heads.add(service.key)
    deployed, durations = service.see_versions(minute), quantiles_of(digest)
    outputs: list[Output] = []
    for objective in service.objectives:
        own = service.states[objective.digest]
        exemplars = own.exemplars.close(minute)
        settle(state, service, objective, minute)
        if own.start_minute is None or minute < own.start_minute:
            continue
        if objective.is_found and _is_idle(own, minute) and (own.is_silent or not closing.catching_up):
            outputs += _fall_silent(state, objective, own)
            continue
        own.is_silent = False
        reader = Reader(state, service, objective, closing)
        own.has_data |= reader.events_row is not None
        event = _sli_event(state, reader, quantiles=durations, exemplars=exemplars)
        gap = _cohort_gap(state, service, event)
        event = event if gap is None else replace(event, cohort_gap=gap)
        state.latest[objective.digest] = event
        outputs.append(event)
        if not objective.finds:
            outputs += advance_budget(state, reader, event)
            outputs += enter_deploys(state, reader, event, deployed)
        if not closing.catching_up:
            outputs += advance_alerts(state, service, reader, exemplars)
    if digest is not None and state.bundle.settings.publish_sketches:
        outputs.append(SketchEvent(context=state.context(), service=service.key, minute=minute, centroids=wire(digest)))
    return outputs


def _is_idle(own: ObjectiveState, minute: int) -> bool:
    return own.newest_minute is not None and own.newest_minute < minute - IDLE_MINUTES


def _fall_silent(state: State, objective: Objective, own: ObjectiveState) -> list[Output]:
    """Nothing is published of a cohort that was found and is idle, until it has events again: what is gone stays gone.

    It keeps its history for as long as nothing needs its room.
    """
    if own.is_silent:
        return []
    own.is_silent = True
    state.latest.pop(objective.digest, None)
    explanation = f"{objective.cohort} had no event for {duration(IDLE_MINUTES)}."
    return [*end_alerts(state, objective, own.alerts, (), explanation), StatusGone(objective=objective)]


def _sli_event(
    state: State,
    reader: Reader,
    revision: int = 0,
    quantiles: dict[str, float] | None = None,
    exemplars: Exemplars | None = None,
) -> SliEvent:
    """Durations and trace ids that came late are not kept, so a correction has neither quantiles nor exemplars."""
    objective, closing = reader.objective, reader.closing
    window_cell, coverage = reader.budget_window(), reader.coverage()
    start_minute, end_minute = reader.span()
    missing = missing_of_window(state, reader)
    left = budget(window_cell, objective.bad_ratio_max, coverage, missing)
    return SliEvent(
        context=state.context(),
        objective=objective,
        minute=closing.minute,
        revision=revision,
        start_minute=start_minute,
        end_minute=end_minute,
        minute_sli=sli(reader.minute(), reader.event_unit),
        window_sli=sli(window_cell, reader.unit, missing),
        coverage=float(coverage),
        budget=left,
        burn_rates=tuple(
            (length, reader.burn_rate(length))
            for length in window_lengths(objective.window_minutes, objective.alerting.rules)
        ),
        quantiles=quantiles,
        catching_up=closing.catching_up,
        gap=reader.gap,
        exemplars=exemplars,
        backfilled_minutes=reader.own.backfilled_minutes(start_minute, closing.minute + 1),
        components=shares_of(state, reader, left.consumed_ratio),
        calls=calls_of(state, reader),
        bad_counted=reader.bad_counted,
    )


def _cohort_gap(state: State, service: Service, event: SliEvent) -> float | None:
    """Returns the ratio of everyone's window less that of a cohort; None where either has no data, or it is no cohort.

    What everyone's is comes first: a cohort's name begins with the name of what it is a part of.
    """
    whole = event.objective.cohort_of
    if not whole:
        return None
    every = next((state.latest.get(o.digest) for o in service.objectives if o.name == whole), None)
    if every is None or every.minute != event.minute:
        return None
    of_all, own = every.window_sli.ratio, event.window_sli.ratio
    return None if of_all is None or own is None else of_all - own


def _statuses(state: State) -> list[Output]:
    """Returns where every objective stands after the last minute that closed."""
    outputs: list[Output] = []
    for key in sorted(state.services):
        service = state.services[key]
        for objective in service.objectives:
            event = state.latest.get(objective.digest)
            if event is None or event.minute + 1 != state.next_minute:
                continue  # its history begins later
            alerts = service.states[objective.digest].alerts
            outputs.append(
                StatusEvent(
                    sli=event,
                    alerts=tuple(
                        (rule, alert.state, alert.began_minute or 0, alert.notified)
                        for rule in objective.alerting.rules
                        if (alert := alerts.get(rule.name)) and alert.state is not AlertState.INACTIVE
                    ),
                )
            )
    return outputs


def _publish_revisions(state: State, objectives: list[Objective], catching_up: bool) -> list[Output]:
    """Corrects the minutes that late rows changed, by a higher revision of the same id, once a minute.

    The windows of later minutes that are already published hold the late rows only from the next minute on.
    """
    assert state.next_minute is not None
    of_minute: dict[int, list[tuple[Service, Objective]]] = {}
    for _, service in sorted(state.services.items()):
        for objective in service.objectives:
            own = service.states[objective.digest]
            for minute in own.revised:
                of_minute.setdefault(minute, []).append((service, objective))
            own.revised.clear()
    horizon = state.next_minute - 2 * FIRST_CLOSE_MINUTES
    outputs: list[Output] = []
    for minute, changed in sorted(of_minute.items(), key=lambda item: item[0]):
        closing = close_windows(state, minute, catching_up, objectives)
        for service, objective in changed:
            own = service.states[objective.digest]
            revision = own.revisions.get(minute, 0) + 1
            own.revisions = {m: number for m, number in own.revisions.items() if m >= horizon} | {minute: revision}
            outputs.append(_sli_event(state, Reader(state, service, objective, closing), revision))
    return outputs
