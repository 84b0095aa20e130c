"""Objectives over other objectives: documents of kind Composite, and OpenSLO's SLOs with an indicator per objective.

Sources: OpenSLO go-sdk, `pkg/openslo/v1/slo.go` (`compositeWeight`); of a target for the whole OpenSLO says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from stream.config.alert_policies import AlertDocuments, read_alerting
from stream.config.annotations import COMPOSITE_TARGET, Annotations
from stream.config.exclusion import DEFAULT_WITHOUT
from stream.config.objectives import (
    COMPOSITE_WEIGHT,
    Declared,
    Slo,
    is_composed,
    read_target_ratio,
    read_weight,
)
from stream.config.problems import nearest, quoted
from stream.config.sections import Section, not_among
from stream.config.selection import read_attribute
from stream.config.time_slices import SLICE_FIELDS, check_annotations, read_method, read_slices
from stream.config.time_windows import TimeWindow, read_time_window
from stream.core.columns import Kind
from stream.core.service_key import service_key, split_service_key
from stream.core.slo.alerts import Alerting
from stream.core.slo.cohorts import cohorts_of
from stream.core.slo.composite import CALLS_MAX, COMPONENTS_MAX, Call, Component, Composite, Missing
from stream.core.slo.spec import BudgetingMethod, Objective, SliSignal

SPEC_FIELDS = (
    "description",
    "service",
    "environment",
    "namespace",
    "components",
    "target",
    "targetPercent",
    "timeWindow",
    "budgetingMethod",
    *SLICE_FIELDS,
    "missing",
    "calls",
    "alertPolicies",
)

_COMPONENTS_EXAMPLE = "[{slo: checkout-availability, weight: 3}, {slo: search-latency}]"


@dataclass(frozen=True, slots=True)
class CompositeDocument:
    """A document whose objective is over others: its name, its annotations, its `spec`."""

    name: str
    annotations: Annotations
    spec: Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What components can be.

    Args:
        declared: The objectives of all SLOs.
        names: Names of the composites and inventories, which are no components.
        complete: No document is missing because it could not be read.
    """

    declared: Sequence[Declared]
    names: Collection[str]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What objectives over others have in common with all others: whose they are, and over which window."""

    service: str
    key: str
    window: TimeWindow
    target: str


def read_composite(document: CompositeDocument, known: Known, alerts: AlertDocuments, now_ns: int) -> list[Declared]:
    """Returns the objective of a Composite, behind those that count its calls; none after a report.

    Args:
        document: The document.
        known: The objectives of all SLOs.
        alerts: The alert policies that it can refer to.
        now_ns: Present time.
    """
    spec, annotations = document.spec, document.annotations
    frame = read_frame(spec, now_ns)
    method = read_method(spec) if "budgetingMethod" in spec.entries else BudgetingMethod.OCCURRENCES
    check_annotations(spec, method, annotations)
    slices = read_slices(spec, method, annotations, frame.window if frame else None)
    alerting = read_alerting(spec, annotations, alerts, frame.window.minutes if frame else None)
    missing = _missing(spec)
    chosen = _components(spec, known)
    attribute = _attribute_of_calls(spec)
    if frame is None or method is None or not chosen:
        return []
    calls, made = _calls(document, frame, [one for one, _ in chosen], attribute) if attribute else ([], [])
    composite = Composite(
        components=tuple(_component(one, weight) for one, weight in chosen),
        missing=missing,
        calls=tuple(calls),
    )
    whole = over_others(document.name, frame, composite, alerting)
    whole = replace(whole, method=method, slices=slices)
    return [*(as_declared(one, frame, spec, is_made=True) for one in made), as_declared(whole, frame, spec)]


def composed(slo: Slo, declared: Sequence[Declared]) -> list[Declared]:
    """Returns the composite of an SLO whose objectives have indicators of their own, each with a `compositeWeight`.

    It is the mean over minutes, whatever the budgeting method of the objectives, and is of the service of the SLO, in
    the environment and the namespace of the first objective.

    Args:
        slo: The document.
        declared: Its objectives.
    """
    spec, target = slo.spec, slo.annotations.composite_target
    parts = [one for one in declared if not one.objective.cohort_of]
    if not is_composed([one.section for one in parts]):
        if target is not None and parts:
            fix = "remove it, or give each objective its own `indicator`"
            spec.refuse("objectives", f"make no composite, so the annotation `{COMPOSITE_TARGET}` has no effect; {fix}")
        return []
    if target is None:
        fix = f'add `{COMPOSITE_TARGET}: "0.99"` to `metadata.annotations`'
        message = "have indicators of their own and make a composite, for which OpenSLO names no target"
        spec.refuse("objectives", f"{message}; {fix}")
    weights = [read_weight(one.section, COMPOSITE_WEIGHT) for one in parts]
    if target is None or None in weights:
        return []
    first = parts[0]
    window = TimeWindow(minutes=first.objective.window_minutes, calendar=first.calendar)
    name = service_key(None, None, first.service).rpartition("/")[2]
    key = f"{first.objective.service.rpartition('/')[0]}/{name}"
    frame = Frame(service=first.service, key=key, window=window, target=target)
    components = tuple(_component(one, weight) for one, weight in zip(parts, weights, strict=True) if weight)
    whole = over_others(slo.name or "", frame, Composite(components=components), first.objective.alerting)
    return [as_declared(whole, frame, spec)]


def read_frame(spec: Section, now_ns: int) -> Frame | None:
    """Returns whose an objective over others is, its window and its target, or None after a report."""
    service = read_attribute(spec, "service", "add `service: storefront`, the name under which it is published")
    missing = "add `environment: production` with the environment that it is about"
    environment = read_attribute(spec, "environment", missing)
    namespace = read_attribute(spec, "namespace", None)
    window = read_time_window(spec, now_ns)
    target = read_target_ratio(spec)
    if service is None or environment is None or window is None or target is None:
        return None
    key = service_key(environment, namespace, service)
    return Frame(service=service, key=key, window=window, target=target)


def over_others(name: str, frame: Frame, composite: Composite, alerting: Alerting) -> Objective:
    """Returns the objective over others; no certificate claims it: its budget is made of minutes, not of events."""
    return Objective(
        service=frame.key,
        name=name,
        target=frame.target,
        window_minutes=frame.window.minutes,
        kinds=(),
        signal=SliSignal.INDICATORS,
        calendar=frame.window.calendar.name if frame.window.calendar else None,
        certified=False,
        composite=composite,
        alerting=alerting,
    )


def as_declared(objective: Objective, frame: Frame, section: Section, *, is_made: bool = False) -> Declared:
    """Returns an objective with where it was read; `is_made`: nobody wrote it."""
    return Declared(
        objective=objective,
        calendar=frame.window.calendar if objective.calendar else None,
        slo=objective.name,
        service=split_service_key(objective.service)[2] if is_made else frame.service,
        indicator_name=None,
        section=section,
        is_made=is_made,
    )


def _component(one: Declared, weight: str) -> Component:
    return Component(service=one.objective.service, objective=one.objective.name, weight=weight)


def _missing(spec: Section) -> Missing:
    text = spec.text("missing")
    if text is not None and text not in tuple(Missing):
        spec.refuse("missing", not_among(text, tuple(Missing)))
        return Missing.IGNORE
    return Missing(text or Missing.IGNORE)


def _components(spec: Section, known: Known) -> list[tuple[Declared, str]]:
    """Returns the components and their weights; fewer than the file has after a report."""
    items = spec.items("components", example=_COMPONENTS_EXAMPLE, missing=f"add `components: {_COMPONENTS_EXAMPLE}`")
    path = spec.path_of("components")
    if items is not None and not 1 <= len(items) <= COMPONENTS_MAX:
        fix = f"write 1 to {COMPONENTS_MAX}, for example `components: {_COMPONENTS_EXAMPLE}`"
        spec.refuse("components", f"has {len(items):,} components; {fix}")
        return []
    chosen: dict[str, tuple[Declared, str]] = {}
    for i, item in enumerate(items or ()):
        section = spec.section_of(item, f"{path}[{i}]", ("slo", "weight"), item.position)
        if section is None:
            continue
        weight = read_weight(section, "weight")
        one = _named(section, known)
        if one is None or weight is None:
            continue
        if one.objective.name in chosen:
            section.refuse("slo", f"{quoted(one.objective.name)} is a component already; remove one of the two")
        chosen.setdefault(one.objective.name, (one, weight))
    return list(chosen.values())


def _named(section: Section, known: Known) -> Declared | None:
    """Returns the objective that a component names, or None after a report."""
    name = section.text("slo", missing="add `slo:` with the name of an SLO")
    if name is None:
        return None
    by_name = {one.objective.name: one for one in known.declared if one.objective.composite is None}
    finds = {one.objective.cohort_of: one.objective.finds for one in by_name.values() if one.objective.finds}
    whole, is_cohort, _ = name.partition("@")
    if is_cohort and whole in finds:
        fix = f"name {quoted(whole)}, or declare the values: `cohorts: {{{finds[whole]}: [one, another]}}`"
        section.refuse("slo", f"{quoted(name)} is one of the cohorts that are found as they arrive; {fix}")
        return None
    if name in by_name:
        return by_name[name]
    parts = [quoted(one.objective.name) for one in by_name.values() if one.slo == name and not one.objective.cohort_of]
    if parts:
        section.refuse("slo", f"{quoted(name)} has several objectives; name one of {', '.join(parts)}, or each of them")
    elif name in known.names:
        section.refuse("slo", f"{quoted(name)} is over others itself; name the objectives that it is made of")
    elif known.complete:
        guess = nearest(name, by_name)
        fix = f"did you mean `{guess}`?" if guess else "pass the file that defines it as well"
        section.refuse("slo", f"no SLO {quoted(name)} in the given files; {fix}")
    return None


def _attribute_of_calls(spec: Section) -> str | None:
    """Returns the attribute of client spans that says whom they called; None where calls are not looked at."""
    if "calls" not in spec.entries:
        return None
    example = "add `calls: {attribute: service.peer.name}`, or remove it"
    section = spec.section("calls", ("attribute",), missing=example)
    missing = "add `attribute: service.peer.name`, which names the called service by its service.name"
    return read_attribute(section, "attribute", missing, "the name of an attribute") if section else None


def _calls(
    document: CompositeDocument, frame: Frame, components: Sequence[Declared], attribute: str
) -> tuple[list[Call], list[Objective]]:
    """Returns the call graph of the components' services, and the objectives that count it; nothing after a report.

    One objective for each service over its client spans, with a cohort for each other service. They are as others,
    but nothing is certified of them and nobody is called.
    """
    spec = document.spec
    named: dict[str, str] = {}
    for key in sorted({one.objective.service for one in components}):
        other = named.setdefault(split_service_key(key)[2], key)
        if other != key:
            fix = "remove it, or make a composite of each environment"
            spec.refuse("calls", f"cannot tell {other} from {key}, which have the same service.name; {fix}")
            return [], []
    number = len(named) * (len(named) - 1)
    if not 0 < number <= CALLS_MAX:
        counted = f"has {number} edges between the services of the components, and 1 to {CALLS_MAX} are kept"
        spec.refuse("calls", f"{counted}; remove it, or change the components")
        return [], []
    calls: list[Call] = []
    made: list[Objective] = []
    for name, key in named.items():
        unsampled = any(one.objective.sampling_none for one in components if one.objective.service == key)
        whole = _calls_of(f"{document.name}/calls-of-{quote(name, safe='')}", key, frame, attribute)
        whole = replace(whole, sampling_none=unsampled)
        parts = cohorts_of(whole, ((attribute, tuple(sorted(other for other in named if other != name))),))
        made += [whole, *parts]
        callees = {part.name: named.get(part.cohort.removeprefix(f"{attribute}=")) for part in parts}
        calls += [Call(caller=key, callee=callee, objective=part) for part, callee in callees.items() if callee]
    return calls, made


def _calls_of(name: str, service: str, frame: Frame, attribute: str) -> Objective:
    """Returns the objective over all client spans of a service."""
    return Objective(
        service=service,
        name=name,
        target=frame.target,
        window_minutes=frame.window.minutes,
        kinds=(int(Kind.CLIENT),),
        without=tuple(entry for entry in DEFAULT_WITHOUT if entry[0] != attribute),
        certified=False,
        alerting=Alerting(rules=()),
    )
