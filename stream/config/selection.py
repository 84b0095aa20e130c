"""The part of a selector that says which items count: of which service, which signal, and with which attributes."""

from __future__ import annotations

from dataclasses import dataclass

from stream.config.problems import either, quoted
from stream.config.sections import NUMBER_CHARACTERS_MAX, Section, not_among
from stream.config.yaml_positions import List, Node, Scalar, ScalarKind
from stream.core.columns import Kind
from stream.core.slo.selection import as_text
from stream.core.slo.spec import SliSignal, Wanted

SELECTION_FIELDS = ("environment", "namespace", "service", "signal", "kinds", "event", "metric", "attributes")

_KINDS = {kind.name.lower(): int(kind) for kind in Kind}
_REQUESTS = (int(Kind.SERVER), int(Kind.CONSUMER))
_SIGNALS = tuple(SliSignal)
_SIGNALS_MEANT = {
    "trace": SliSignal.SPANS,
    "traces": SliSignal.SPANS,
    "event": SliSignal.SPANS,
    "events": SliSignal.SPANS,
}
_CHARACTERS_MAX = 255
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
    """

    environment: str
    namespace: str | None = None
    service: str | None = None
    signal: SliSignal = SliSignal.SPANS
    kinds: tuple[int, ...] = _REQUESTS
    event: str | None = None
    metric: str | None = None
    attributes: Wanted = ()


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
    kinds = _kinds(selector)
    event, metric = _names(selector, signal)
    attributes: Wanted | None = ()
    if "attributes" in selector.entries:
        attributes = read_wanted(selector, "attributes", example=_ATTRIBUTES_EXAMPLE)
    if environment is None or signal is None or attributes is None or len(selector.problems) > before:
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
    )


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
    if text is not None and not _can_be_compared(text):
        selector.refuse(name, _not_comparable(text, what))
    return text


def read_wanted(section: Section, name: str, *, example: str) -> Wanted | None:
    """Returns the attributes and values in a mapping `name: {key: value}` or `name: {key: [value, …]}`.

    Args:
        section: The mapping that holds the field.
        name: The field.
        example: A value to show in a message.

    Returns:
        Attributes and the texts of their values, sorted; None after a report.
    """
    before = len(section.problems)
    mapping = section.section(name, None, missing=f"write `{name}: {example}`")
    if mapping is None:
        return None
    if not mapping.entries:
        section.refuse(name, f"names no attribute; write `{name}: {example}`")
    wanted: dict[str, tuple[str, ...]] = {}
    for key, entry in mapping.entries.items():
        path = mapping.path_of(key)
        if not _can_be_compared(key):
            section.refuse_at(entry.key_position, path, _not_comparable(key, "the name of an attribute"))
        wanted[key] = _values(mapping, entry.value, path)
    return None if len(section.problems) > before else tuple(sorted(wanted.items()))


def _values(section: Section, node: Node, path: str) -> tuple[str, ...]:
    """Returns the values in a scalar or a list of scalars, sorted."""
    if not isinstance(node, List):
        text = _value(section, node, path)
        return () if text is None else (text,)
    if not node.items:
        section.refuse_at(node.position, path, "is an empty list, so nothing would fit; write one value at least")
    values: set[str] = set()
    for i, item in enumerate(node.items):
        at = f"{path}[{i}]"
        text = _value(section, item, at)
        if text in values:
            section.refuse_at(item.position, at, f"{quoted(text)} is given twice; remove one of the two")
        elif text is not None:
            values.add(text)
    return tuple(sorted(values))


def _value(section: Section, node: Node, path: str) -> str | None:
    """Returns a value as attributes are compared: `200` and `"200"` are the same."""
    if isinstance(node, Scalar) and node.kind is ScalarKind.BOOLEAN:
        return node.text.lower()
    if isinstance(node, Scalar) and node.kind is ScalarKind.NUMBER:
        number = _number_text(node.text)
        if number is None:
            fix = f"write at most {NUMBER_CHARACTERS_MAX} characters, or quotes around it"
            section.refuse_at(node.position, path, f"{quoted(node.text)} is too long or too large a number; {fix}")
        return number
    if not isinstance(node, Scalar):
        message = "must be a value or a list of values; write text, a number, true or false"
        section.refuse_at(node.position, path, message)
        return None
    text = section.text_of(node, path)
    if text is not None and not _can_be_compared(text):
        section.refuse_at(node.position, path, _not_comparable(text, "the value of an attribute"))
    return text


def _number_text(text: str) -> str | None:
    if len(text) > NUMBER_CHARACTERS_MAX:
        return None
    if text.lstrip("+-").isdecimal():
        return as_text(int(text))
    number = float(text)
    return None if number in (float("inf"), float("-inf")) else as_text(number)


def _can_be_compared(text: str) -> bool:
    return 0 < len(text) <= _CHARACTERS_MAX and text.isprintable() and text == text.strip()


def _not_comparable(text: str, what: str) -> str:
    fix = f"write 1 to {_CHARACTERS_MAX} printable characters without blanks around them"
    return f"{quoted(text)} cannot be {what}; {fix}"


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


def _kinds(selector: Section) -> tuple[int, ...] | None:
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
