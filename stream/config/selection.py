"""The part of a selector that says which items count: of which service, which signal, and with which attributes."""

from __future__ import annotations

from dataclasses import dataclass

from stream.config.exclusion import ROUTE, read_without
from stream.config.problems import either, quoted
from stream.config.sections import Section, not_among
from stream.config.wanted import not_comparable, read_texts, read_wanted
from stream.config.yaml_positions import Scalar
from stream.core.columns import Kind
from stream.core.slo.selection import can_be_compared, merged
from stream.core.slo.spec import OTHER_COHORT, SliSignal, Wanted

FIELDS = (
    "environment",
    "namespace",
    "service",
    "signal",
    "kinds",
    "event",
    "metric",
    "attributes",
    "routes",
    "versions",
    "without",
    "exclude",
    "cohorts",
)
"""Fields of a selector that say what counts."""

_KINDS = {kind.name.lower(): int(kind) for kind in Kind}
_REQUESTS = (int(Kind.SERVER), int(Kind.CONSUMER))
_SIGNALS = tuple(SliSignal)
_SIGNALS_MEANT = {
    "trace": SliSignal.SPANS,
    "traces": SliSignal.SPANS,
    "event": SliSignal.SPANS,
    "events": SliSignal.SPANS,
}
_COHORTS_EXAMPLE = "{customer.tier: [gold, silver]}"
_ATTRIBUTES_EXAMPLE = "{http.route: /checkout}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which items count: the fields of an objective of these names.

    Args:
        environment: Of the service.
        namespace: Of the service; None for none.
        service: Its name; None: the service of the SLO that uses it.
        signal: Spans (and flat events), logs or metrics.
        kinds: Of spans; of metric points, which name one (`span.kind`) or whose metric's name does; () for any.
        event: Name of the log records that count; None for all.
        metric: Name of the metric.
        attributes: Only items with one of the values of each of these count.
        without: Items with one of the values of any of these do not count.
        versions: Only these versions of the service count; () for all.
        cohorts: The attribute whose values are objectives of their own, and these values, or any; () for none.
    """

    environment: str
    namespace: str | None = None
    service: str | None = None
    signal: SliSignal = SliSignal.SPANS
    kinds: tuple[int, ...] = _REQUESTS
    event: str | None = None
    metric: str | None = None
    attributes: Wanted = ()
    without: Wanted = ()
    versions: tuple[str, ...] = ()
    cohorts: Wanted = ()


def read_selection(selector: Section) -> Selection | None:
    """Returns the selection, or None after reporting what is wrong with it."""
    before = len(selector.problems)
    missing = "add `environment: production` with the deployment.environment.name that the service reports"
    environment = read_attribute(selector, "environment", missing)
    namespace = read_attribute(selector, "namespace", None)
    service = read_attribute(selector, "service", None)
    written = selector.text("signal")
    signal = signal_of(selector)
    if written is not None and signal is None:
        meant = _SIGNALS_MEANT.get(written.lower())
        selector.refuse(
            "signal", f"{quoted(written)} is not known; write `{meant}`" if meant else not_among(written, _SIGNALS)
        )
    kinds = read_kinds(selector)
    event, metric = _names(selector, signal)
    attributes = _attributes(selector)
    without = None if attributes is None else read_without(selector, signal, attributes)
    versions: tuple[str, ...] | None = ()
    if "versions" in selector.entries:
        versions = read_texts(selector, "versions", example='["1.10", "1.11"]', what="a version")
    cohorts = _cohorts(selector, attributes)
    if environment is None or signal is None or attributes is None or without is None or versions is None:
        return None
    if len(selector.problems) > before:
        return None
    if kinds is None:
        kinds = _REQUESTS if signal is SliSignal.SPANS else ()
    return Selection(
        environment=environment,
        namespace=namespace,
        service=service,
        signal=signal,
        kinds=kinds,
        event=event,
        metric=metric,
        attributes=attributes,
        without=without,
        versions=versions,
        cohorts=cohorts,
    )


def _attributes(selector: Section) -> Wanted | None:
    """Returns the wanted attributes, routes among them, or None after a report."""
    attributes: Wanted | None = ()
    if "attributes" in selector.entries:
        attributes = read_wanted(selector, "attributes", example=_ATTRIBUTES_EXAMPLE)
    if "routes" not in selector.entries:
        return attributes
    routes = read_texts(selector, "routes", example="[/cart, /checkout]", what="a route")
    if attributes is None or routes is None:
        return None
    if any(key == ROUTE for key, _ in attributes):
        selector.refuse("routes", f"stands beside `attributes: {{{ROUTE}: …}}`, which is the same; remove one of them")
        return None
    return merged([attributes, ((ROUTE, routes),)])


def _cohorts(selector: Section, attributes: Wanted | None) -> Wanted:
    """Returns the attribute that makes cohorts with its values; () where there is none or it was refused."""
    if "cohorts" not in selector.entries:
        return ()
    cohorts = read_wanted(selector, "cohorts", example=_COHORTS_EXAMPLE)
    if cohorts is None:
        return ()
    if len(cohorts) > 1:
        fix = "write one here, and another SLO for the other"
        selector.refuse("cohorts", f"names {len(cohorts)} attributes; {fix}")
        return ()
    ((key, values),) = cohorts
    if key in dict(attributes or ()):
        selector.refuse("cohorts", f"divides by {quoted(key)}, which is selected already; remove it from one of them")
    if OTHER_COHORT in values:
        fix = "remove it: everything that is in no other cohort becomes it"
        selector.refuse("cohorts", f"the cohort `{OTHER_COHORT}` is made by itself; {fix}")
    return cohorts


def signal_of(selector: Section) -> SliSignal | None:
    """Returns the signal that a selector names, or the default; None where it names none that is known. Silent."""
    entry = selector.entries.get("signal")
    if entry is None:
        return SliSignal.SPANS
    text = entry.value.text if isinstance(entry.value, Scalar) else ""
    return SliSignal(text) if text in _SIGNALS else None


def read_attribute(selector: Section, name: str, missing: str | None, what: str = "a resource attribute") -> str | None:
    """Returns a field that is compared with what telemetry says, or None after a report."""
    text = selector.text(name, missing=missing)
    if text is not None and not can_be_compared(text):
        selector.refuse(name, not_comparable(text, what))
    return text


def _names(selector: Section, signal: SliSignal | None) -> tuple[str | None, str | None]:
    """Returns the name of the event and of the metric, after reporting what does not belong to the signal."""
    event = read_attribute(selector, "event", None, "an event name")
    needs_metric = signal is SliSignal.METRICS
    missing = "add `metric: http.server.request.duration` with the name of yours" if needs_metric else None
    metric = read_attribute(selector, "metric", missing, "a metric name")
    if signal is None:
        return event, metric
    if "kinds" in selector.entries and signal is SliSignal.LOGS:
        selector.refuse("kinds", "is about spans, and log records have no kind; remove it")
    for name, owner in (("event", SliSignal.LOGS), ("metric", SliSignal.METRICS)):
        if name in selector.entries and signal is not owner:
            fix = f"write `signal: {owner}` as well, or remove it"
            selector.refuse(name, f"belongs to {owner}, and this selects {signal}; {fix}")
    return event, metric


def read_kinds(selector: Section) -> tuple[int, ...] | None:
    """Returns the span kinds; None where none are given."""
    items = selector.items("kinds", example="[server, consumer]")
    if items is None:
        return None
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
