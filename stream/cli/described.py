"""Configurations in words, for people who check whether a file says what they mean."""

from __future__ import annotations

import time

from stream.config.exclusion import DEFAULT_WITHOUT
from stream.config.openslo import Configuration
from stream.core.columns import Kind
from stream.core.slo.burn_rate import duration
from stream.core.slo.composite import Composite, Missing
from stream.core.slo.spec import BudgetingMethod, Comparison, Objective, RawRatio, SliSignal, Wanted

_COMPONENTS_SHOWN = 5
_SIGNS = {Comparison.LTE: "at most", Comparison.LT: "less than", Comparison.GTE: "at least", Comparison.GT: "more than"}


def line(objective: Objective) -> str:
    """Returns one line that says what an objective asks."""
    return f"{objective.service} {objective.name}: {objective.target} of {asked(objective)}, {window(objective)}"


def asked(objective: Objective) -> str:
    """Returns what the target is a share of, and what is good."""
    events = f"{counted(objective)} {good(objective)}" if objective.composite is None else composed(objective.composite)
    slices = objective.slices
    match objective.method:
        case BudgetingMethod.TIMESLICES if slices:
            return f"slices of {duration(slices.minutes)} in which at least {slices.target} of {events}"
        case BudgetingMethod.RATIO_TIMESLICES if slices:
            return f"{events}, each slice of {duration(slices.minutes)} counting the same"
        case _:
            return events


def composed(composite: Composite) -> str:
    """Returns what an objective over others is made of."""
    components = composite.components
    if composite.seen_minutes is not None:
        seen = counted_as(len(components), "service or span", "services or spans")
        return f"{seen} seen within {duration(composite.seen_minutes)}"
    parts = [f"{component.weight} x {component.objective}" for component in components[:_COMPONENTS_SHOWN]]
    rest = len(components) - len(parts)
    missing = ", bad where they have no events" if composite.missing is Missing.BAD else ""
    return f"the mean minute of {', '.join(parts)}{f' and {rest:,} more' if rest else ''}{missing}"


def counted(objective: Objective) -> str:
    """Returns what counts."""
    match objective.signal:
        case SliSignal.METRICS if objective.raw or objective.threshold:
            what = f"points of {objective.metric}"
        case SliSignal.METRICS:
            what = f"what {objective.metric} counts"
        case SliSignal.LOGS:
            what = f"{objective.event} events" if objective.event is not None else "log records"
        case _:
            what = "calls" if objective.kinds == (Kind.CLIENT,) else "requests"
    if objective.versions:
        what += f" to {' and '.join(objective.versions)}"
    if objective.attributes:
        what += f" with {_attributes(objective.attributes)}"
    if objective.finds and not objective.is_found:
        what += f" of no {objective.finds} that has a cohort of its own"
    usual = dict(DEFAULT_WITHOUT)
    without = tuple((key, values) for key, values in objective.without if usual.get(key) != values)
    return f"{what} without {_attributes(without)}" if without else what


def good(objective: Objective) -> str:
    """Returns what is good."""
    threshold = objective.threshold
    if objective.duration_lte_ns is not None:
        return f"take at most {objective.duration_lte_ns / 1e6:g} ms"
    if objective.severity_lt is not None:
        return f"have a severity below {objective.severity_lt}"
    if threshold is not None:
        verb = "are" if threshold.attribute is None else f"have a {threshold.attribute} of"
        return f"{verb} {_SIGNS[threshold.op]} {threshold.value}"
    if objective.good_attributes:
        return f"have {_attributes(objective.good_attributes)}"
    if objective.bad_attributes:
        return f"do not have {_attributes(objective.bad_attributes)}"
    if objective.good_metric is not None:
        return f"is in {objective.good_metric}"
    if objective.bad_metric is not None:
        return f"is not in {objective.bad_metric}"
    if objective.raw is not None:
        return f"(each as {'good' if objective.raw is RawRatio.SUCCESS else 'bad'} as its value)"
    return "succeed"


def window(objective: Objective) -> str:
    """Returns the window of the error budget."""
    if objective.calendar is not None:
        return f"in each {objective.calendar}"
    return f"over {duration(objective.window_minutes)}"


def declared(configuration: Configuration) -> list[str]:
    """Returns a line for each adjustment and each mute, which must not be overlooked."""
    lines = [
        f"{adjustment.name}: {counted_as(adjustment.end_minute - adjustment.start_minute, 'minute')} from "
        f"{_time(adjustment.start_minute)} do not count against the budget of {', '.join(adjustment.objectives)}"
        for adjustment in configuration.adjustments
    ]
    lines += [
        f"{mute.name}: notifications of {', '.join(mute.services) or 'all services'} are held back for "
        f"{counted_as(mute.end_minute - mute.start_minute, 'minute')} from {_time(mute.start_minute)}"
        for mute in configuration.mutes
    ]
    return lines


def _time(minute: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(minute * 60))


def counted_as(number: int, what: str, several: str | None = None) -> str:
    """Returns a number with what it counts: `1 objective`, `2 objectives`."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def _attributes(wanted: Wanted) -> str:
    return " and ".join(f"{key}={'|'.join(values)}" for key, values in wanted)
