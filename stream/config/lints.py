"""Warnings about objectives that can be read but probably do not do what their author wants. They stop nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from stream.config.objectives import Declared
from stream.core.cells import HOUR_RING
from stream.core.certificate.issuance import ALPHA
from stream.core.columns import Kind
from stream.core.service_key import split_service_key
from stream.core.slo.burn_rate import RuleKind, burns, duration, rules_for
from stream.core.slo.spec import ANY_VALUE, BudgetingMethod, Objective, SliSignal
from stream.core.statistics.sequential import events_until_decidable
from stream.core.units import HOUR_MINUTES

SLIS_MIN, SLIS_MAX = 3, 7
"""Indicators that a service should have: fewer leave something unseen, nobody looks at more."""

_RECEIVED = (Kind.SERVER, Kind.CONSUMER)
_SAY_FAILURE = {"http.response.status_code", "rpc.grpc.status_code", "rpc.response.status_code", "error.type"}


def warn(declared: Sequence[Declared], events_per_hour: Fraction | None = None) -> None:
    """Adds the warnings to the sections of the objectives.

    Args:
        declared: All objectives.
        events_per_hour: Events of each objective, where somebody knows; None: nothing is said about traffic.
    """
    whole = [one for one in declared if not one.objective.cohort_of and not one.is_made]
    for one in whole:
        _warn_of_alerts(one)
        _warn_of_target(one)
        _warn_of_window(one)
        if one.objective.composite is not None:
            _warn_of_components(one, declared)
        elif events_per_hour is not None:
            _warn_of_traffic(one, events_per_hour)
    is_one_of_many = len({one.slo for one in whole}) == 1
    by_service: dict[str, list[Declared]] = {}
    for one in whole:
        if one.objective.composite is None:
            by_service.setdefault(one.objective.service, []).append(one)
    for service, some in by_service.items():
        if not is_one_of_many:
            _warn_of_count(service, some)
        _warn_of_blindness(service, some, declared)


def _warn_of_alerts(one: Declared) -> None:
    """Warns of rules that can never burn, and of those that would burn at a rate that the budget sustains."""
    objective = one.objective
    window_minutes, outage = objective.window_minutes, 1 / objective.bad_ratio_max
    rules = [
        rule
        for rule in rules_for(window_minutes, objective.alerting.rules)
        if rule.kind is RuleKind.BURN_RATE and (_counts_failures(objective) or not rule.availability_only)
    ]
    at_least = objective.alerting.at_least
    never = [rule for rule in rules if not burns(outage, outage, rule.factor(window_minutes), at_least)]
    if never:
        named = ", ".join(f"`{rule.name}` ({_number(rule.factor(window_minutes))} times)" for rule in never)
        found = f"at a target of {objective.target} a total outage burns {_number(outage)} times"
        fix = "raise the target, or name an alert policy with a lower threshold"
        _warn_at_target(one, f"{found}, so {named} can never fire; {fix}")
    sustained = {rule.name: factor for rule in rules if (factor := rule.nominal_factor(window_minutes)) < 1}
    if sustained:
        named = " and ".join(f"`{name}` ({_number(factor)})" for name, factor in sustained.items())
        found = f"over {duration(window_minutes)} the budget sustains the burn rate of {named}"
        fix = "choose a window of 30d, or alert policies with thresholds above 1"
        _warn_at_target(one, f"{found}, so 1 is used instead; {fix}")


def _warn_of_target(one: Declared) -> None:
    """Warns of a target below 1 %: a ratio that was written as a percentage."""
    target = one.objective.target_ratio
    if target < Fraction(1, 100):
        found = f"asks for {_number(target * 100)} % of good {one.objective.unit} only"
        _warn_at_target(one, f"{found}; a ratio stands in `target`, a percentage in `targetPercent`")


def _warn_of_window(one: Declared) -> None:
    """Warns of periods of a calendar that are longer than what is kept of each hour."""
    if one.objective.window_minutes > HOUR_RING.retention_minutes:
        kept = duration(HOUR_RING.retention_minutes)
        found = f"its window of {duration(one.objective.window_minutes)} is longer than hours are kept, {kept}"
        lost = "budget adjustments no longer leave out what is older, and gaps in it are forgotten"
        _warn_at_target(one, f"{found}: {lost}; choose a shorter window, such as a quarter")


def _warn_of_traffic(one: Declared, events_per_hour: Fraction) -> None:
    """Warns of a target that one window of the traffic cannot show, however good the service is."""
    objective = one.objective
    needed = _events_needed(objective.bad_ratio_max)
    events = events_per_hour * objective.window_minutes / HOUR_MINUTES
    if events < needed:
        allowed = f"allow {_number(events * objective.bad_ratio_max)} bad ones"
        found = (
            f"{_number(events_per_hour)} events an hour are {_number(events)} in {duration(objective.window_minutes)}"
        )
        fix = "choose a lower target or a longer window, or send synthetic traffic to an objective of its own"
        shown = f"and {needed:,} without a failure are needed to show {objective.target}"
        _warn_at_target(one, f"{found}, which {allowed}, {shown}; {fix}")


def _warn_of_components(one: Declared, declared: Sequence[Declared]) -> None:
    """Warns of a target that is missed although every component meets its own, where all are shares of good events."""
    objective, composite = one.objective, one.objective.composite
    assert composite is not None
    by_name = {(other.objective.service, other.objective.name): other.objective for other in declared}
    parts = [
        (component.weight_exact, by_name[component.service, component.objective]) for component in composite.components
    ]
    sliced = any(part.method is BudgetingMethod.TIMESLICES for part in (objective, *(part for _, part in parts)))
    if sliced or composite.seen_minutes is not None:
        return
    promised = sum((w * part.target_ratio for w, part in parts), Fraction()) / sum((w for w, _ in parts), Fraction())
    if objective.target_ratio > promised:
        found = f"where every component just meets its own target this is {float(promised):.6g}, and so missed"
        _warn_at_target(one, f"{found}; write that or less, or ask more of the components")


def _warn_of_count(service: str, some: Sequence[Declared]) -> None:
    """Warns of a service with too few or too many indicators. Objectives of one SLO share theirs."""
    slos = {one.slo for one in some}
    if len(slos) < SLIS_MIN:
        fix = "add some: latency, freshness, or what its users would complain of first"
    elif len(slos) > SLIS_MAX:
        fix = "keep those that users notice"
    else:
        return
    has = f"{len(slos)} SLI{'s' * (len(slos) != 1)}"
    message = f"the service {service} has {has}, and {SLIS_MIN} to {SLIS_MAX} are recommended; {fix}"
    _warn_at_target(some[0], message)


def _warn_of_blindness(service: str, some: Sequence[Declared], declared: Sequence[Declared]) -> None:
    """Warns, once for a service, where nothing but what its server spans say tells whether it answers.

    A process that crashes or hangs ends no span: its failures are missing instead of bad. An alert on no data at all
    does not see it either, while other instances go on.
    """
    name = split_service_key(service)[2]
    callers = [one.objective for one in declared if one.objective.kinds == (Kind.CLIENT,)]
    if any({name, ANY_VALUE} & {*values} for objective in callers for _, values in objective.attributes):
        return
    if any(one.objective.signal is SliSignal.METRICS for one in some):
        return
    for one in some:
        objective = one.objective
        of_spans = objective.signal is SliSignal.SPANS and set(objective.kinds) <= set(_RECEIVED)
        if of_spans and _is_availability(objective) and objective.floor_per_hour is None:
            fix = (
                "add an SLO on client spans of a caller "
                f"(`kinds: [client]`, `attributes: {{service.peer.name: {name}}}`) "
                "or on a metric of the load balancer, or the annotation `qma/floor-per-hour`"
            )
            message = "counts failures by server spans alone, which crashed and hung requests never end"
            _warn_at_target(one, f"{message}; {fix}")
            return


def _is_availability(objective: Objective) -> bool:
    """Returns whether bad means that a request failed, by its status or by the code that says so."""
    by = {key for key, _ in objective.bad_attributes}
    return _counts_failures(objective) and not objective.good_attributes and by <= _SAY_FAILURE


def _counts_failures(objective: Objective) -> bool:
    return objective.duration_lte_ns is None and objective.threshold is None


def _warn_at_target(one: Declared, message: str) -> None:
    name = "targetPercent" if "targetPercent" in one.section.entries else "target"
    one.section.warn(name, message)


@lru_cache
def _events_needed(bad_ratio_max: Fraction) -> int:
    """Returns how many events without a failure certify a target."""
    return events_until_decidable(0, 0, bad_ratio_max, ALPHA)


def _number(value: Fraction | None) -> str:
    assert value is not None, "a burn rate always has a factor"
    return f"{float(value):,.4g}" if value < 10_000 else f"{round(value):,}"
