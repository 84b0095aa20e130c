"""The selector in an SLI: which items count, and which of them are good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream.config.goodness import Good, read_good
from stream.config.problems import quoted
from stream.config.sections import Section
from stream.config.selection import SELECTION_FIELDS, Selection, read_selection
from stream.core.columns import Kind
from stream.core.slo.spec import SliSignal

SOURCE_TYPE = "qma"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """A service level indicator.

    Args:
        selection: Which items count.
        is_threshold: The objective says with `op` and `value` what is good.
        good: Which of them are good, unless `is_threshold`.
    """

    selection: Selection
    is_threshold: bool
    good: Good = field(default_factory=Good)


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
    metric = spec.section("ratioMetric", ("counter", "good", "bad", "total", "raw", "rawType"), missing=missing)
    return None if metric is None else _ratio_metric(metric, source_types)


def _threshold_metric(spec: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    metric = spec.section("thresholdMetric", ("metricSource",))
    selector = None if metric is None else _selector(metric, source_types)
    if selector is None:
        return None
    if "good" in selector.entries:
        selector.refuse(
            "good", "belongs to a ratioMetric; remove it: the objective's `op` and `value` say what is good"
        )
    selection = read_selection(selector)
    if selection is None:
        return None
    if selection.signal is SliSignal.LOGS:
        fix = "write a ratioMetric with `good: {severity_below: error}`"
        selector.refuse("signal", f"log records have no duration that a threshold could be compared with; {fix}")
        return None
    return Indicator(selection=selection, is_threshold=True)


def _ratio_metric(metric: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    metric.boolean("counter")  # Events are counted one by one, so it changes nothing; a typo is still a typo.
    for name in ("bad", "raw", "rawType"):
        if name in metric.entries:
            metric.refuse(name, "is not supported; describe the good events in `good` and all of them in `total`")
    if "bad" in metric.entries or "raw" in metric.entries:
        return None
    good = metric.section("good", ("metricSource",), missing="add `good: {metricSource: {type: qma, spec: …}}`")
    total = metric.section(
        "total",
        ("metricSource",),
        missing="add `total:` with the metricSource of `good`, without its line `good:`",
    )
    selector = good and _selector(good, source_types)
    all_selector = total and _selector(total, source_types)
    selection, rule = None, Good()
    if selector:
        selection, rule = read_selection(selector), read_good(selector)
    if all_selector:
        _check_total(all_selector, selection)
    if selection is None:
        return None
    return Indicator(selection=selection, is_threshold=False, good=rule)


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
    return source.section("spec", (*SELECTION_FIELDS, "good"), missing=missing)


def _referenced_type(source: Section, reference: str, source_types: Mapping[str, str | None]) -> str | None:
    if reference in source_types:
        return source_types[reference]
    fix = f"write `type: {SOURCE_TYPE}` instead, or pass the file that defines it"
    source.refuse("metricSourceRef", f"no DataSource {quoted(reference)} in the given files; {fix}")
    return None


def _check_total(selector: Section, good: Selection | None) -> None:
    """Reports where the selection of `total` differs from that of `good`."""
    if "good" in selector.entries:
        selector.refuse("good", "does not belong in `total`, which counts every selected event; remove it")
    total = read_selection(selector)
    if total is None or good is None:
        return
    fields = SELECTION_FIELDS if total.signal is good.signal else ("signal",)
    for name in fields:
        of_total, of_good = getattr(total, name), getattr(good, name)
        if of_total != of_good:
            both = f"{_shown(name, of_total)} here and {_shown(name, of_good)} in `good`"
            selector.refuse(name, f"is {both}; both must select the same events, write the same in both")


def _shown(name: str, value: Any) -> str:
    if name == "kinds" and value:
        return f"`[{', '.join(Kind(kind).name.lower() for kind in value)}]`"
    if name == "attributes" and value:
        return quoted(
            "{" + ", ".join(f"{key}: {values[0] if len(values) == 1 else _list(values)}" for key, values in value) + "}"
        )
    return quoted(value) if value else "left out"


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(values)}]"
