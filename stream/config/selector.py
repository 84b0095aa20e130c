"""The selector in an SLI: which events count, and which of them are good."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from stream.config.problems import either, quoted, shown
from stream.config.sections import Section
from stream.config.yaml_positions import Map, Scalar, ScalarKind
from stream.core.columns import Kind
from stream.core.units import HOUR_NS, MINUTE_NS, SECOND_NS

SOURCE_TYPE = "qma"
DURATION_NS_MAX = 7 * 24 * HOUR_NS

_UNITS_NS = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": SECOND_NS, "m": MINUTE_NS, "h": HOUR_NS}
_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|ms|s|m|h)", re.ASCII)
_KINDS = {kind.name.lower(): int(kind) for kind in Kind}
_SELECTION_FIELDS = ("environment", "namespace", "service", "kinds")
_ATTRIBUTE_CHARACTERS_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events count. `service` None: the service of the SLO that uses it."""

    environment: str
    namespace: str | None
    service: str | None
    kinds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """A service level indicator.

    Args:
        selection: Which events count.
        is_threshold: The objective says with `op` and `value` what is good.
        duration_lte_ns: Good means at most this long; None: it did not fail, unless `is_threshold`.
    """

    selection: Selection
    is_threshold: bool
    duration_lte_ns: int | None


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


def read_duration_ns(text: str) -> int | str:
    """Returns a duration such as `200ms`, `1.5s` or `2m` in ns, exactly, or what is wrong with it."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return f"{quoted(text)} is not a duration; write a number and ns, us, ms, s, m or h, for example `200ms`"
    return exact_duration_ns(Fraction(match[1]) * _UNITS_NS[match[2]], text)


def exact_duration_ns(duration: Fraction, text: str) -> int | str:
    """Returns a duration as whole ns, or a message that says what is wrong.

    Args:
        duration: The duration in ns.
        text: The duration as written.
    """
    if duration <= 0:
        return f"{quoted(text)} is not longer than 0; no event could be good, write a positive duration"
    if duration > DURATION_NS_MAX:
        return f"{quoted(text)} is longer than 7 days; check the unit"
    if duration.denominator != 1:
        return f"{quoted(text)} is finer than a nanosecond; round it"
    return duration.numerator


def _threshold_metric(spec: Section, source_types: Mapping[str, str | None]) -> Indicator | None:
    metric = spec.section("thresholdMetric", ("metricSource",))
    selector = None if metric is None else _selector(metric, source_types)
    if selector is None:
        return None
    if "good" in selector.entries:
        selector.refuse(
            "good", "belongs to a ratioMetric; remove it: the objective's `op` and `value` say what is good"
        )
    selection = _selection(selector)
    if selection is None:
        return None
    return Indicator(selection=selection, is_threshold=True, duration_lte_ns=None)


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
    selection, duration = None, None
    if selector:
        selection, duration = _selection(selector), _good(selector)
    if all_selector:
        _check_total(all_selector, selection)
    if selection is None:
        return None
    return Indicator(selection=selection, is_threshold=False, duration_lte_ns=duration)


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
    return source.section("spec", (*_SELECTION_FIELDS, "good"), missing=missing)


def _referenced_type(source: Section, reference: str, source_types: Mapping[str, str | None]) -> str | None:
    if reference in source_types:
        return source_types[reference]
    fix = f"write `type: {SOURCE_TYPE}` instead, or pass the file that defines it"
    source.refuse("metricSourceRef", f"no DataSource {quoted(reference)} in the given files; {fix}")
    return None


def _selection(selector: Section) -> Selection | None:
    """Returns the selection, or None after reporting what is wrong with it."""
    before = len(selector.problems)
    missing = "add `environment: production` with the deployment.environment.name that the service reports"
    environment = read_attribute(selector, "environment", missing)
    namespace = read_attribute(selector, "namespace", None)
    service = read_attribute(selector, "service", None)
    kinds = _kinds(selector)
    if environment is None or len(selector.problems) > before:
        return None
    return Selection(environment=environment, namespace=namespace, service=service, kinds=kinds)


def read_attribute(selector: Section, name: str, missing: str | None) -> str | None:
    """Returns a field that is compared with a resource attribute, or None after a report."""
    text = selector.text(name, missing=missing)
    if text is not None and (len(text) > _ATTRIBUTE_CHARACTERS_MAX or not text.isprintable() or text != text.strip()):
        fix = f"write 1 to {_ATTRIBUTE_CHARACTERS_MAX} printable characters without blanks around them"
        selector.refuse(name, f"{quoted(text)} cannot be a resource attribute; {fix}")
    return text


def _kinds(selector: Section) -> tuple[int, ...]:
    items = selector.items("kinds", example="[server, consumer]")
    if items is None:
        return (int(Kind.SERVER), int(Kind.CONSUMER))
    if not items:
        selector.refuse("kinds", "is empty, so nothing would count; remove it for `[server, consumer]`")
    kinds: set[int] = set()
    for i, item in enumerate(items):
        path = f"{selector.path_of('kinds')}[{i}]"
        text = selector.text_of(item, path)
        if text is not None and text not in _KINDS:
            word = text.upper().removeprefix("SPAN_KIND_").lower()
            fix = f"write `{word}`" if word in _KINDS else f"write {either(_KINDS)}"
            selector.refuse_at(item.position, path, f"{quoted(text)} is not a span kind; {fix}")
        elif text is not None and _KINDS[text] in kinds:
            selector.refuse_at(item.position, path, f"{quoted(text)} is given twice; remove one of the two")
        elif text is not None:
            kinds.add(_KINDS[text])
    return tuple(sorted(kinds))


def _good(selector: Section) -> int | None:
    """Returns the longest good duration in ns, or None for `status_ok` and after a report."""
    rules = "`good: status_ok` or `good: {duration_lte: 200ms}`"
    entry = selector.entries.get("good")
    if entry is None or not isinstance(entry.value, Map):
        text = selector.text("good", missing=f"add {rules}")
        if text not in (None, "status_ok"):
            selector.refuse("good", f"{quoted(str(text))} is not a rule for good events; write {rules}")
        return None
    rule = selector.section("good", ("duration_lte",))
    if rule is None:
        return None
    entry = rule.entries.get("duration_lte")
    if entry and isinstance(entry.value, Scalar) and entry.value.kind is ScalarKind.NUMBER:
        number = shown(entry.value.text)
        rule.refuse("duration_lte", f"`{number}` has no unit; write for example `{number}ms` or `{number}s`")
        return None
    longest = rule.text("duration_lte", missing="write `good: {duration_lte: 200ms}`")
    if longest is None:
        return None
    duration = read_duration_ns(longest)
    if isinstance(duration, str):
        rule.refuse("duration_lte", duration)
        return None
    return duration


def _check_total(selector: Section, good: Selection | None) -> None:
    """Reports where the selection of `total` differs from that of `good`."""
    if "good" in selector.entries:
        selector.refuse("good", "does not belong in `total`, which counts every selected event; remove it")
    total = _selection(selector)
    if total is None or good is None:
        return
    for name in _SELECTION_FIELDS:
        of_total, of_good = getattr(total, name), getattr(good, name)
        if of_total != of_good:
            shown = f"{_shown(name, of_total)} here and {_shown(name, of_good)} in `good`"
            selector.refuse(name, f"is {shown}; both must select the same events, write the same in both")


def _shown(name: str, value: str | tuple[int, ...] | None) -> str:
    if isinstance(value, tuple):
        return f"`[{', '.join(Kind(kind).name.lower() for kind in value)}]`"
    return "left out" if value is None else quoted(value)
