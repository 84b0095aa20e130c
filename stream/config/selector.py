"""The metric of an SLI: which items count, and which of them are good or bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from stream.config.goodness import Good, read_bad, read_good
from stream.config.problems import quoted
from stream.config.sections import Section
from stream.config.selection import FIELDS, Selection, read_selection
from stream.config.thresholds import VALUE_FIELDS, Measured, read_measured
from stream.core.columns import Kind
from stream.core.slo.spec import RawRatio, SliSignal

SOURCE_TYPE = "qma"
METRIC_FIELDS = ("ratioMetric", "thresholdMetric")

_RATIO_FIELDS = ("counter", "good", "bad", "total", "raw", "rawType")
_SELECTOR_FIELDS = (*FIELDS, "good", "bad", *VALUE_FIELDS)
_RAW_FIX = "write `rawType: success` where 1 is good, or `rawType: failure` where 0 is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """A service level indicator.

    Args:
        selection: Which items count.
        good: Which of them are good, unless `measured`.
        measured: What the objective compares, with `op` and `value`, to say what is good; None for a ratio.
    """

    selection: Selection
    good: Good = field(default_factory=Good)
    measured: Measured | None = None


def read_indicator(spec: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    """Returns the indicator in the `spec` of an SLI, or None after reporting what is wrong.

    Args:
        spec: The section, with the fields `ratioMetric` and `thresholdMetric`.
        source_types: Type of each DataSource by name; None where it could not be read.
    """
    if spec.has("ratioMetric") and spec.has("thresholdMetric"):
        spec.refuse("thresholdMetric", "stands beside ratioMetric; an SLI has one of them, remove the other")
        return None
    if "thresholdMetric" in spec.entries:
        return _threshold_metric(spec, source_types)
    missing = "add `ratioMetric:` with `good` and `total`, or `thresholdMetric:` for a latency objective"
    metric = spec.section("ratioMetric", _RATIO_FIELDS, missing=missing)
    if metric is None:
        return None
    metric.boolean("counter")  # Points say themselves what they are, so it changes nothing; a typo is still a typo.
    is_raw = "raw" in metric.entries or "rawType" in metric.entries
    return _raw_ratio(metric, source_types) if is_raw else _ratio(metric, source_types)


def _threshold_metric(spec: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    metric = spec.section("thresholdMetric", ("metricSource",))
    selector = None if metric is None else _selector(metric, source_types)
    if selector is None:
        return None
    fix = "remove it: the objective's `op` and `value` say what is good"
    _refuse_fields(selector, ("good", "bad"), f"belongs to a ratioMetric; {fix}")
    selection = read_selection(selector)
    if selection is None:
        return None
    measured = read_measured(selector, selection.signal)
    return None if measured is None else Indicator(selection=selection, measured=measured)


def _raw_ratio(metric: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    """Returns the indicator of a metric whose points are ratios themselves."""
    _refuse_fields(metric, ("good", "bad", "total"), "stands beside raw, which is a ratio already; remove one of them")
    kind = metric.text("rawType", missing=_RAW_FIX)
    if kind not in (None, *RawRatio):
        metric.refuse("rawType", f"{quoted(str(kind))} is not known; {_RAW_FIX}")
        kind = None
    raw = metric.section("raw", ("metricSource",), missing="add `raw: {metricSource: {type: qma, spec: …}}`")
    selector = None if raw is None else _selector(raw, source_types)
    if selector is None:
        return None
    _refuse_fields(selector, ("good", "bad"), "does not belong in `raw`, whose points are ratios already; remove it")
    _refuse_value_of(selector)
    selection = read_selection(selector)
    if selection is None or kind is None:
        return None
    if selection.signal is not SliSignal.METRICS:
        fix = "write `signal: metrics` and `metric:` with the name of the gauge"
        selector.refuse("signal", f"a raw ratio is the value of a metric, and this selects {selection.signal}; {fix}")
        return None
    return Indicator(selection=selection, good=Good(raw=RawRatio(kind)))


def _ratio(metric: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    """Returns the indicator of good or bad events and all of them."""
    if "good" in metric.entries and "bad" in metric.entries:
        metric.refuse("bad", "stands beside good; describe the one or the other, remove one of them")
        return None
    name = "bad" if "bad" in metric.entries else "good"
    part = metric.section(name, ("metricSource",), missing="add `good: {metricSource: {type: qma, spec: …}}`")
    missing = f"add `total:` with the metricSource of `{name}`, without its line `{name}:`"
    total = metric.section("total", ("metricSource",), missing=missing)
    selector = part and _selector(part, source_types)
    all_selector = total and _selector(total, source_types)
    chosen, of_total = None, None
    if selector:
        _refuse_value_of(selector)
        chosen = read_selection(selector)
    if all_selector:
        refused = "does not belong in `total`, which counts every selected event; remove it"
        _refuse_fields(all_selector, ("good", "bad"), refused)
        _refuse_value_of(all_selector)
        of_total = read_selection(all_selector)
    counts_itself = bool(selector and chosen and of_total and _is_other_metric(selector, name, chosen, of_total))
    rule = _rule(selector, name, chosen.metric if chosen and counts_itself else None) if selector else Good()
    if all_selector and selector and chosen and of_total:
        _check_equal(all_selector, of_total, selector, chosen, name, but=("metric",) if counts_itself else ())
    if chosen is None:
        return None
    return Indicator(selection=of_total if counts_itself and of_total else chosen, good=rule)


def _rule(selector: Section, name: str, metric: str | None) -> Good:
    """Returns which events are good: those that a metric counts, or those that the rule in the field `name` says.

    Args:
        selector: Of the good, or the bad, events.
        name: `good` or `bad`.
        metric: The metric that counts them and nothing else; None: there is none.
    """
    other, example = ("good", "`bad: status_error`") if name == "bad" else ("bad", "`good: status_ok`")
    if other in selector.entries:
        selector.refuse(other, f"does not belong in `{name}`; write for example {example}")
        return Good()
    if metric is not None:
        return Good(good_metric=metric) if name == "good" else Good(bad_metric=metric)
    return read_good(selector) if name == "good" else read_bad(selector)


def _is_other_metric(selector: Section, name: str, part: Selection, total: Selection) -> bool:
    """Returns whether the good, or the bad, events are what a metric of their own counts."""
    both = part.signal is total.signal is SliSignal.METRICS
    return both and name not in selector.entries and part.metric != total.metric


def _refuse_fields(section: Section, names: Sequence[str], message: str) -> None:
    for name in names:
        if name in section.entries:
            section.refuse(name, message)


def _refuse_value_of(selector: Section) -> None:
    _refuse_fields(selector, VALUE_FIELDS, "belongs to a thresholdMetric; remove it, or write one")


def _selector(metric: Section, source_types: Mapping[str, str | None]) -> Section | None:
    """Returns the `spec` of a metric's source after checking that the source is ours."""
    missing = "add `metricSource: {type: qma, spec: {environment: …}}`"
    source = metric.section("metricSource", ("metricSourceRef", "type", "spec"), missing=missing)
    if source is None:
        return None
    reference = source.text("metricSourceRef")
    if reference is None:
        named = source.text("type", missing=f"add `type: {SOURCE_TYPE}`")
    else:
        named = source.text("type") or _referenced_type(source, reference, source_types)
    if named is not None and named != SOURCE_TYPE:
        at = "type" if source.has("type") else "metricSourceRef"
        source.refuse(at, f"the source type {quoted(named)} cannot be read here; write `type: {SOURCE_TYPE}`")
        return None  # The spec then speaks another language; its fields would only add noise.
    missing = "add `spec: {environment: production}` with your environment"
    return source.section("spec", _SELECTOR_FIELDS, missing=missing)


def _referenced_type(source: Section, reference: str, source_types: Mapping[str, str | None]) -> str | None:
    if reference in source_types:
        return source_types[reference]
    fix = f"write `type: {SOURCE_TYPE}` instead, or pass the file that defines it"
    source.refuse("metricSourceRef", f"no DataSource {quoted(reference)} in the given files; {fix}")
    return None


def _check_equal(
    total_at: Section, total: Selection, part_at: Section, part: Selection, name: str, but: Sequence[str]
) -> None:
    """Reports where the selection of `total` differs from that of the good, or the bad, events."""
    compared = [f.name for f in fields(Selection)] if total.signal is part.signal else ["signal"]
    for one in compared:
        of_total, of_part = getattr(total, one), getattr(part, one)
        if of_total == of_part or one in but:
            continue
        both = f"{_shown(one, of_total)} here and {_shown(one, of_part)} in `{name}`"
        fix = "both must select the same events, write the same in both"
        if one == "metric":
            fix += f", or remove the line `{name}:` where {quoted(str(of_part))} counts just the {name} ones"
        # Two fields may fill an attribute; the one that somebody wrote is the one to point at.
        at = {"attributes": "routes", "without": "exclude"}.get(one, one)
        written = any(at in section.entries and one not in section.entries for section in (total_at, part_at))
        total_at.refuse(at if written else one, f"is {both}; {fix}")


def _shown(name: str, value: Any) -> str:
    if name == "kinds" and value:
        return f"`[{', '.join(Kind(kind).name.lower() for kind in value)}]`"
    if name == "versions" and value:
        return quoted(_list(value))
    if name in ("attributes", "without", "cohorts") and value:
        return quoted(
            "{" + ", ".join(f"{key}: {values[0] if len(values) == 1 else _list(values)}" for key, values in value) + "}"
        )
    return quoted(value) if value else "left out"


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(values)}]"
