"""What the two queries of a Sloth SLI count, in our terms: which points of a metric, and which of them are good.

The error query must count some of the events that the total query counts: those that have further labels, those that
lack them, or those above a bound of a histogram. Everything else is refused, because an indicator that counts
something similar is another indicator.

Source: Sloth, `pkg/prometheus/api/v1` (SLIEvents: error and total query, with `{{.window}}`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction

from stream.config.goodness import exact_duration_ns
from stream.config.label_values import LabelValues, label_values
from stream.config.numbers import canonical
from stream.config.problems import either, quoted
from stream.config.prometheus_names import (
    ENVIRONMENT,
    SPAN_KIND,
    MetricName,
    attribute_name,
    metric_name,
)
from stream.config.promql import Count, Difference, Matcher, parse_query
from stream.config.wanted import not_comparable
from stream.core.columns import Kind
from stream.core.errors import ConfigError
from stream.core.otlp.semconv import SERVICE_NAME, SERVICE_NAMESPACE
from stream.core.slo.selection import can_be_compared
from stream.core.slo.spec import NO_VALUE, Wanted
from stream.core.units import SECOND_NS

_BOUND = "le"
_BOUND_TEXT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?|\+Inf", re.ASCII)
_KINDS = tuple(kind.name.lower() for kind in Kind)
_IDENTITY = (SERVICE_NAME, SERVICE_NAMESPACE, ENVIRONMENT)
_SHAPES = "let the error query count the total's metric with further labels, or subtract the good events from the total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The good events, or the bad ones: what a metric of their own counts, or those with some attributes.

    Args:
        name: `good` or `bad`.
        attributes: They have one of the values of each of these.
        metric: The metric that counts them; None: that of all events.
    """

    name: str
    attributes: Wanted = ()
    metric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMost:
    """Good events take at most this long, a decimal number of seconds."""

    seconds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlothIndicator:
    """What an SLI counts.

    Args:
        metric: The metric whose points count.
        is_histogram: The queries name the series of a histogram.
        rule: Which of the events are good.
        attributes: Only events with one of the values of each of these count.
        without: Events with one of the values of any of these do not count.
        kinds: Only events of spans of these kinds count; () for all.
        service: `service.name`, where the queries name it.
        namespace: `service.namespace`, where the queries name it.
        environment: `deployment.environment.name`, where the queries name it.
    """

    metric: MetricName
    is_histogram: bool
    rule: Part | AtMost
    attributes: Wanted = ()
    without: Wanted = ()
    kinds: tuple[str, ...] = ()
    service: str | None = None
    namespace: str | None = None
    environment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A count whose labels became attributes. `bound`: only events up to it count, in the unit of the metric."""

    metric: MetricName
    is_histogram: bool
    function: str
    labels: Mapping[str, LabelValues] = field(default_factory=dict)
    bound: Decimal | None = None


def read_total(query: str) -> Counted:
    """Returns what a total query counts.

    Raises:
        ConfigError: It counts in a way that cannot be expressed.
    """
    found = parse_query(query)
    if isinstance(found, Difference):
        raise ConfigError("a difference cannot be expressed as all events; count the total with one `sum`")
    counted = _counted(found)
    if counted.bound is not None:
        raise ConfigError("one bucket is not all events; write the `_count` of the histogram")
    return counted


def read_indicator(total: Counted, error_query: str) -> SlothIndicator:
    """Returns the indicator whose bad events an error query counts.

    Raises:
        ConfigError: It counts in a way that cannot be expressed, or not a part of the total.
    """
    found = parse_query(error_query)
    if isinstance(found, Difference):
        whole, part = _counted(found.whole), _counted(found.part)
        if whole != total:
            raise ConfigError("the good events are subtracted from something else than the total query; write that")
        rule = _rule_of_good(total, part)
    else:
        part = _counted(found)
        rule = _rule_of_bad(total, part)
    if part.function != total.function:
        raise ConfigError(f"`{part.function}` here and `{total.function}` in another part; write the same in all")
    return _indicator(total, rule)


def _counted(count: Count) -> Counted:
    base = count.metric.removesuffix("_bucket")
    is_bucket = base != count.metric
    if not is_bucket:
        base = count.metric.removesuffix("_count")
    if base == count.metric and base.endswith("_sum"):
        raise ConfigError(f"{quoted(base)} adds up values and counts no events; write the `_count`")
    bounds = [matcher for matcher in count.matchers if matcher.label == _BOUND]
    if is_bucket != bool(bounds):
        fix = 'add `le="…"`' if is_bucket else "remove `le`, which only a `_bucket` has"
        raise ConfigError(f"{quoted(count.metric)} cannot be counted so; {fix}")
    metric = metric_name(base)
    grouped: dict[str, list[Matcher]] = {}
    for matcher in count.matchers:
        if matcher.label != _BOUND:
            for name, part in _attributes(matcher, metric):
                grouped.setdefault(name, []).append(part)
    for name, what in ((metric.name, "the name of a metric"), *((key, "the name of an attribute") for key in grouped)):
        if not can_be_compared(name):
            raise ConfigError(not_comparable(name, what))
    labels = {name: label_values(matchers) for name, matchers in grouped.items()}
    return Counted(
        metric=metric,
        is_histogram=base != count.metric,
        function=count.function,
        labels={name: values for name, values in labels.items() if values != LabelValues()},
        bound=_bound(bounds),
    )


def _attributes(matcher: Matcher, metric: MetricName) -> list[tuple[str, Matcher]]:
    """Returns the attributes that a label is made from, each with the condition on it: of a `job` there may be two."""
    name = attribute_name(matcher.label, metric, is_quoted=matcher.is_quoted)
    if not (matcher.label == "job" and metric.is_conventional and matcher.operator == "=" and "/" in matcher.value):
        return [(name, matcher)]
    namespace, _, service = matcher.value.partition("/")
    return [(SERVICE_NAMESPACE, replace(matcher, value=namespace)), (SERVICE_NAME, replace(matcher, value=service))]


def _bound(matchers: Sequence[Matcher]) -> Decimal | None:
    """Returns the bound of the bucket; None for the one that holds all events."""
    if not matchers:
        return None
    texts = label_values(matchers).allowed or frozenset()
    bounds = {Decimal(text) if _BOUND_TEXT.fullmatch(text) else Decimal(0) for text in texts}
    if len(bounds) != 1 or 0 in bounds:
        raise ConfigError(f"{quoted(str(matchers[0]))} is not one bound above 0; write one that the histogram has")
    bound = bounds.pop()
    return bound if bound.is_finite() else None


def _rule_of_bad(total: Counted, bad: Counted) -> Part:
    """Returns the rule of the good events where a count of the bad ones is given."""
    if bad.bound is not None:
        raise ConfigError("the events up to a bound are counted as errors; subtract them from the total")
    if bad.metric != total.metric:
        return Part(name="bad", metric=_other_metric(total, bad))
    further = _further(total, bad)
    if not further:
        raise ConfigError("every event that the total counts is an error; add the label that errors have")
    inverse = _inverse(further)
    return Part(name="good", attributes=inverse) if inverse else Part(name="bad", attributes=_listed(further))


def _rule_of_good(total: Counted, good: Counted) -> Part | AtMost:
    """Returns the rule of the good events where a count of them is given."""
    if good.metric != total.metric:
        if good.bound is not None:
            raise ConfigError("the bucket is of another metric than the total; take both from one histogram")
        return Part(name="good", metric=_other_metric(total, good))
    further = _further(total, good)
    if good.bound is not None:
        if further:
            raise ConfigError(f"good depends on a bound and on {either(further)}; write an SLO for each")
        return AtMost(seconds=_seconds(good.bound, good.metric))
    if not further:
        raise ConfigError("every event that the total counts is good; add the label that good events have")
    inverse = _inverse(further)
    return Part(name="bad", attributes=inverse) if inverse else Part(name="good", attributes=_listed(further))


def _further(total: Counted, part: Counted) -> dict[str, LabelValues]:
    """Returns what a part asks for beyond what the total does.

    Raises:
        ConfigError: It counts events that the total does not.
    """
    further = {}
    for name in sorted({*total.labels, *part.labels}):
        of_total, of_part = total.labels.get(name, LabelValues()), part.labels.get(name, LabelValues())
        if of_total == of_part:
            continue
        if name in _IDENTITY:
            raise ConfigError(f"selects by {quoted(name)} otherwise than the total; write the same in both")
        if not _is_within(of_part, of_total):
            raise ConfigError(f"counts events that the total does not, by {quoted(name)}; narrow it in both")
        refused = of_part.refused - of_total.refused if of_part.allowed is None else frozenset[str]()
        further[name] = LabelValues(allowed=of_part.allowed, refused=refused)
    return further


def _inverse(further: Mapping[str, LabelValues]) -> Wanted:
    """Returns the values that a part leaves out, where that is all it asks for; () otherwise."""
    if len(further) != 1:
        return ()
    [(name, values)] = further.items()
    return _wanted({name: values.refused}) if values.allowed is None else ()


def _is_within(part: LabelValues, whole: LabelValues) -> bool:
    if part.allowed is None:
        return whole.allowed is None and whole.refused <= part.refused
    return not part.allowed & whole.refused and (whole.allowed is None or part.allowed <= whole.allowed)


def _other_metric(total: Counted, part: Counted) -> str:
    """Returns the name of a metric that counts a part of what the total's metric counts."""
    if part.labels != total.labels:
        raise ConfigError("counts another metric than the total, with other labels; write the same labels in both")
    return part.metric.name


def _listed(further: Mapping[str, LabelValues]) -> Wanted:
    """Returns labels as attributes that must have one of some values."""
    wanted = {name: values.allowed for name, values in further.items() if values.allowed is not None}
    if len(wanted) < len(further):
        names = either(name for name in further if name not in wanted)
        raise ConfigError(f"asks for labels that are something and, by {names}, for some that are not; {_SHAPES}")
    return _wanted(wanted)


def _wanted(values: Mapping[str, frozenset[str]]) -> Wanted:
    return tuple((name, tuple(sorted(values[name]))) for name in sorted(values))


def _seconds(bound: Decimal, metric: MetricName) -> str:
    """Returns a bound in seconds."""
    if metric.unit_exponent is None:
        raise ConfigError(f"{quoted(metric.name)} says no unit of time; only bounds of durations can be expressed")
    seconds = canonical(str(bound), metric.unit_exponent)
    duration = exact_duration_ns(Fraction(seconds) * SECOND_NS, seconds)
    if isinstance(duration, str):
        raise ConfigError(f"the bound, in seconds, {duration}")
    return seconds


def _indicator(total: Counted, rule: Part | AtMost) -> SlothIndicator:
    labels = dict(total.labels)
    service, namespace, environment = (_only(name, labels.pop(name, None)) for name in _IDENTITY)
    kinds = _kinds(labels.pop(SPAN_KIND, LabelValues())) if total.metric.is_conventional else ()
    return SlothIndicator(
        metric=total.metric,
        is_histogram=total.is_histogram,
        rule=rule,
        attributes=_wanted({name: values.allowed for name, values in labels.items() if values.allowed is not None}),
        without=_wanted({name: values.refused for name, values in labels.items() if values.allowed is None}),
        kinds=kinds,
        service=service,
        namespace=namespace,
        environment=environment,
    )


def _only(name: str, values: LabelValues | None) -> str | None:
    """Returns the value of an attribute that a service is known by."""
    if values is None:
        return None
    if values.allowed is None or len(values.allowed) != 1 or NO_VALUE in values.allowed:
        raise ConfigError(f"selects several services by {quoted(name)}; write an SLO for each of them")
    return next(iter(values.allowed))


def _kinds(values: LabelValues) -> tuple[str, ...]:
    named = {text.removeprefix("SPAN_KIND_").lower() for text in values.allowed or values.refused}
    unknown = sorted(named.difference(_KINDS))
    if unknown:
        raise ConfigError(f"{quoted(unknown[0])} is not a span kind; write {either(_KINDS)}")
    if values.allowed is not None:
        return tuple(kind for kind in _KINDS if kind in named)
    return tuple(kind for kind in _KINDS if kind not in named) if named else ()
