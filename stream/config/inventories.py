"""What must be seen: documents of kind Inventory, whose indicator is the share of it that was, lately.

Each declared service or span is a small objective, and the inventory a composite over them.
"""

from __future__ import annotations

from stream.config.alert_policies import AlertDocuments, read_alerting
from stream.config.composites import CompositeDocument, Frame, as_declared, over_others, read_frame
from stream.config.durations import read_minutes
from stream.config.exclusion import ROUTE
from stream.config.metadata import slug
from stream.config.objectives import Declared
from stream.config.problems import quoted
from stream.config.sections import Section
from stream.config.selection import read_attribute, read_kinds
from stream.config.wanted import read_wanted
from stream.core.columns import Kind
from stream.core.service_key import service_key
from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import DEFAULT_RULES, RuleKind, Severity, duration
from stream.core.slo.composite import COMPONENTS_MAX, Component, Composite
from stream.core.slo.selection import merged
from stream.core.slo.spec import Objective, Wanted
from stream.core.units import DAY_MINUTES

SPEC_FIELDS = (
    "description",
    "service",
    "environment",
    "namespace",
    "services",
    "target",
    "targetPercent",
    "timeWindow",
    "within",
    "alertPolicies",
)

WITHIN_MINUTES_MAX = 7 * DAY_MINUTES
"""What was seen longer ago than this is not there."""

_SERVICES_EXAMPLE = "[{service: checkout}, {service: search, spans: [{route: /search}]}]"
_ALL_KINDS = tuple(sorted(int(kind) for kind in Kind))
_TICKETS = tuple(
    rule for rule in DEFAULT_RULES if rule.severity is Severity.TICKET and rule.kind is not RuleKind.EVIDENCE_GAP
)
"""Nobody is called out of bed for a span that is not instrumented. A new inventory has gaps of
evidence, as long as a part was not seen and `within` has not passed."""


def read_inventory(document: CompositeDocument, alerts: AlertDocuments, now_ns: int) -> list[Declared]:
    """Returns the objectives of an Inventory: of each part, then that over them; none after a report.

    A part counts everything that it selects, whatever its result, health checks and synthetic traffic included: they
    show as well as anything else that a service is instrumented.

    Args:
        document: The document.
        alerts: The alert policies that it can refer to.
        now_ns: Present time.
    """
    spec = document.spec
    before = len(spec.problems)
    frame = read_frame(spec, now_ns)
    within = _within(spec)
    alerting = read_alerting(spec, document.annotations, alerts, frame.window.minutes if frame else None)
    if "alertPolicies" not in spec.entries:
        alerting = Alerting(rules=_TICKETS, runbook=alerting.runbook, dashboard=alerting.dashboard)
    parts = _parts(document, frame)
    if frame is None or within is None or not parts or len(spec.problems) > before:
        return []
    components = tuple(Component(service=part.service, objective=part.name) for part in parts)
    whole = over_others(document.name, frame, Composite(components=components, seen_minutes=within), alerting)
    return [*(as_declared(part, frame, spec, is_made=True) for part in parts), as_declared(whole, frame, spec)]


def _within(spec: Section) -> int | None:
    if "within" not in spec.entries:
        return DAY_MINUTES
    minutes = read_minutes(spec, "within", example="24h")
    if minutes is not None and minutes > WITHIN_MINUTES_MAX:
        spec.refuse("within", f"is longer than {duration(WITHIN_MINUTES_MAX)}; write that or less")
        return None
    return minutes


def _parts(document: CompositeDocument, frame: Frame | None) -> list[Objective]:
    """Returns an objective for each service without spans and for each span; fewer than there are after a report."""
    spec = document.spec
    items = spec.items("services", example=_SERVICES_EXAMPLE, missing=f"add `services: {_SERVICES_EXAMPLE}`")
    if items == ():
        spec.refuse("services", f"is empty, so nothing has to be there; write `services: {_SERVICES_EXAMPLE}`")
    parts: dict[str, Objective] = {}
    for i, item in enumerate(items or ()):
        path = f"{spec.path_of('services')}[{i}]"
        section = spec.section_of(item, path, ("service", "environment", "namespace", "spans"), item.position)
        if section is None:
            continue
        service = read_attribute(section, "service", "add `service:` with the service.name that it reports")
        environment = read_attribute(section, "environment", None) or _text_of(spec, "environment")
        namespace = read_attribute(section, "namespace", None) or _text_of(spec, "namespace")
        selected = _selected(section)
        if service is None or frame is None:
            continue
        key = service_key(environment, namespace, service)
        for kinds, attributes in selected:
            name = _name(document.name, service, attributes, parts)
            parts[name] = _part(name, key, frame, kinds, attributes)
    if len(parts) > COMPONENTS_MAX:
        spec.refuse("services", f"declares {len(parts):,} parts; write at most {COMPONENTS_MAX}")
    _check_distinct(spec, list(parts.values()))
    return list(parts.values())


def _text_of(spec: Section, name: str) -> str | None:
    return spec.text(name) if name in spec.entries else None


def _selected(section: Section) -> list[tuple[tuple[int, ...], Wanted]]:
    """Returns the kinds and the attributes of each span of a service; of all of them where it names none."""
    if "spans" not in section.entries:
        return [(_ALL_KINDS, ())]
    example = "[{kinds: [server], route: /cart}]"
    items = section.items("spans", example=example)
    if items == ():
        section.refuse("spans", f"is empty; write `spans: {example}`, or remove it where any span will do")
    selected = []
    for i, item in enumerate(items or ()):
        path = f"{section.path_of('spans')}[{i}]"
        span = section.section_of(item, path, ("kinds", "route", "attributes"), item.position)
        if span is None:
            continue
        if not span.entries:
            span.refuse_at(item.position, path, f"selects nothing in particular; write `spans: {example}`")
        kinds = read_kinds(span) or _ALL_KINDS
        attributes = (
            read_wanted(span, "attributes", example="{rpc.method: Pay}") if "attributes" in span.entries else ()
        )
        route = read_attribute(span, "route", None, "a route")
        if attributes is not None and route is not None and any(key == ROUTE for key, _ in attributes):
            span.refuse("route", f"stands beside `attributes: {{{ROUTE}: …}}`, which is the same; remove one of them")
        selected.append((kinds, merged([attributes or (), ((ROUTE, (route,)),) if route else ()])))
    return selected


def _name(inventory: str, service: str, attributes: Wanted, taken: dict[str, Objective]) -> str:
    """Returns a name that no other part of the inventory has."""
    values = [value for _, some in attributes for value in some]
    name = f"{inventory}/{slug('-'.join([service, *values])) or 'part'}"
    number = next(n for n in range(1, len(taken) + 2) if (f"{name}-{n}" if n > 1 else name) not in taken)
    return f"{name}-{number}" if number > 1 else name


def _part(name: str, service: str, frame: Frame, kinds: tuple[int, ...], attributes: Wanted) -> Objective:
    return Objective(
        service=service,
        name=name,
        target=frame.target,
        window_minutes=frame.window.minutes,
        kinds=kinds,
        attributes=attributes,
        certified=False,
        alerting=Alerting(rules=()),
    )


def _check_distinct(spec: Section, parts: list[Objective]) -> None:
    """Reports what is declared twice: it would weigh double."""
    first: dict[tuple[str, tuple[int, ...], Wanted], Objective] = {}
    for part in parts:
        other = first.setdefault((part.service, part.kinds, part.attributes), part)
        if other is not part:
            spec.refuse(
                "services", f"declares the same twice, as {quoted(other.name)} and {quoted(part.name)}; remove one"
            )
