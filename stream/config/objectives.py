"""The `spec` of an SLO: window, budgeting method, targets and alerts, all exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from stream.config.alert_policies import AlertDocuments, read_alerting
from stream.config.annotations import COHORT_GAP_MAX, Annotations
from stream.config.goodness import Good
from stream.config.metadata import slug
from stream.config.numbers import canonical
from stream.config.problems import Position, quoted
from stream.config.sections import Section
from stream.config.selection import read_attribute
from stream.config.selector import Indicator
from stream.config.thresholds import read_threshold
from stream.config.time_slices import SLICE_FIELDS, TARGET_DIGITS_MAX, check_annotations, read_method, read_slices
from stream.config.time_windows import read_time_window
from stream.core.service_key import service_key
from stream.core.slo.burn_rate import cohort_gap_rule
from stream.core.slo.calendar import Calendar
from stream.core.slo.cohorts import cohorts_of
from stream.core.slo.spec import Objective

SPEC_FIELDS = (
    "description",
    "service",
    "indicator",
    "indicatorRef",
    "timeWindow",
    "budgetingMethod",
    "objectives",
    "alertPolicies",
)

WEIGHT_MAX = 1_000_000
WEIGHT_DIGITS_MAX = 6
"""Of the weight of a component: finer and heavier ones make no difference that anybody sees."""

INDICATOR_FIELDS = ("indicator", "indicatorRef")
COMPOSITE_WEIGHT = "compositeWeight"
_OBJECTIVE_FIELDS = (
    "displayName",
    "op",
    "value",
    "target",
    "targetPercent",
    *SLICE_FIELDS,
    *INDICATOR_FIELDS,
    COMPOSITE_WEIGHT,
)

ReadIndicator = Callable[[Section], tuple[Indicator | None, str | None]]
"""Returns the indicator in the fields `indicator` and `indicatorRef` of a section and its name; None after a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """An SLO document before its objectives are read.

    Args:
        name: The SLO's name; None when it was refused.
        annotations: Those of its metadata.
        read_indicator: Reads what is measured.
        spec: The section `spec`.
    """

    name: str | None
    annotations: Annotations
    read_indicator: ReadIndicator
    spec: Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An objective and where it was read.

    Args:
        objective: The objective.
        calendar: Its calendar; None where its window rolls.
        slo: Name of its SLO.
        service: The SLO's `service`, as it is written.
        indicator_name: Name of its SLI; None where it has none.
        section: Its entry in `objectives`, or where else it is written.
        is_made: It was made for a composite, and nobody wrote it.
    """

    objective: Objective
    calendar: Calendar | None
    slo: str
    service: str
    indicator_name: str | None
    section: Section
    is_made: bool = False

    @property
    def weight(self) -> str | None:
        """Its `compositeWeight`; None after a report."""
        return read_weight(self.section, COMPOSITE_WEIGHT)


def read_objectives(slo: Slo, documents: AlertDocuments, now_ns: int) -> list[Declared]:
    """Returns the objectives of an SLO; fewer than the file has after reporting what is wrong.

    Args:
        slo: The document.
        documents: The alert policies that it can refer to.
        now_ns: Present time.
    """
    spec = slo.spec
    missing = "add `service: checkout` with the service.name that the service reports"
    service = read_attribute(spec, "service", missing)
    window = read_time_window(spec, now_ns)
    method = read_method(spec)
    check_annotations(spec, method, slo.annotations)
    alerting = read_alerting(spec, slo.annotations, documents, window.minutes if window else None)
    sections = _objective_sections(spec)
    indicators = _indicators(slo, sections)
    names = _names(slo.name or "", sections, alone=not is_composed(sections))
    declared = []
    for name, section, (indicator, indicator_name) in zip(names, sections, indicators, strict=True):
        target = read_target_ratio(section)
        good = _good(section, indicator)
        slices = read_slices(section, method, slo.annotations, window)
        if indicator is None or service is None or target is None or window is None or method is None:
            continue
        selection = indicator.selection
        objective = Objective(
            service=service_key(selection.environment, selection.namespace, selection.service or service),
            name=name,
            target=target,
            window_minutes=window.minutes,
            kinds=selection.kinds,
            sampling_none=slo.annotations.sampling_none,
            signal=selection.signal,
            metric=selection.metric,
            event=selection.event,
            attributes=selection.attributes,
            without=selection.without,
            versions=selection.versions,
            method=method,
            slices=slices,
            calendar=window.calendar.name if window.calendar else None,
            floor_per_hour=slo.annotations.floor_per_hour,
            expected_from=slo.annotations.expected_from,
            expected_tolerance=slo.annotations.expected_tolerance,
            lost_by=slo.annotations.lost_by,
            certified=not slo.annotations.certificate_none,
            alerting=alerting,
            **good.fields(),
        )
        declared += [
            Declared(
                objective=one,
                calendar=window.calendar,
                slo=slo.name or "",
                service=service,
                indicator_name=indicator_name,
                section=section,
            )
            for one in (objective, *_watched(cohorts_of(objective, selection.cohorts), slo.annotations))
        ]
    if slo.annotations.cohort_gap_max and declared and not any(one.objective.cohort_of for one in declared):
        fix = "add `cohorts: {customer.tier: [gold, silver]}` with yours, or remove it"
        slo.annotations.refuse(COHORT_GAP_MAX, f"is about cohorts, and this SLO has none; {fix}")
    return declared


def _watched(cohorts: list[Objective], annotations: Annotations) -> list[Objective]:
    """Returns cohorts with the alert on how much worse than everyone they are, where one is asked for."""
    if annotations.cohort_gap_max is None:
        return cohorts
    rule = cohort_gap_rule(Fraction(annotations.cohort_gap_max))
    return [replace(one, alerting=replace(one.alerting, rules=(*one.alerting.rules, rule))) for one in cohorts]


def is_composed(sections: Sequence[Section]) -> bool:
    """Returns whether the objectives of an SLO have indicators of their own. Source: OpenSLO v1, composite SLOs."""
    return any(name in section.entries for section in sections for name in INDICATOR_FIELDS)


def _indicators(slo: Slo, sections: Sequence[Section]) -> list[tuple[Indicator | None, str | None]]:
    """Returns the indicator of each objective and its name: the SLO's, or its own."""
    spec = slo.spec
    if is_composed(sections):
        for name in INDICATOR_FIELDS:
            if name in spec.entries:
                spec.refuse(name, "stands beside indicators of the objectives; remove it or those")
        return [slo.read_indicator(section) for section in sections]
    indicator, indicator_name = slo.read_indicator(spec)
    if len(sections) > 1 and indicator is not None and indicator.measured:
        fix = "write one SLO for each threshold, as OpenSLO v1 asks"
        spec.refuse_at(sections[1].position, sections[1].path, f"a thresholdMetric takes one objective; {fix}")
    for section in sections:
        if COMPOSITE_WEIGHT in section.entries:
            fix = "give each objective its own `indicator`, or remove it"
            section.refuse(COMPOSITE_WEIGHT, f"weighs indicators against each other, and this SLO has one; {fix}")
    return [(indicator, indicator_name)] * len(sections)


def read_weight(section: Section, name: str) -> str | None:
    """Returns a weight as a canonical decimal, 1 where there is none, or None after a report."""
    if name not in section.entries:
        return "1"
    text = section.number(name, example="3")
    if text is None:
        return None
    weight = canonical(text)
    if not 0 < Fraction(weight) <= WEIGHT_MAX or len(weight.partition(".")[2]) > WEIGHT_DIGITS_MAX:
        most = f"at most {WEIGHT_MAX:,}, with at most {WEIGHT_DIGITS_MAX} digits after the point"
        section.refuse(name, f"{quoted(text)} is no weight; write a number above 0 and {most}, as `{name}: 3`")
        return None
    return weight


def _objective_sections(spec: Section) -> list[Section]:
    """Returns the entries of `objectives` that are mappings."""
    items = spec.items("objectives", example="[{target: 0.999}]", missing="add `objectives: [{target: 0.999}]`")
    if items is None:
        return []
    path = spec.path_of("objectives")
    if not items:
        spec.refuse("objectives", "is empty; write `objectives: [{target: 0.999}]`")
    sections = []
    for i, item in enumerate(items):
        section = spec.section_of(item, f"{path}[{i}]", _OBJECTIVE_FIELDS, item.position)
        if section is not None:
            sections.append(section)
    return sections


def _names(slo_name: str, sections: list[Section], *, alone: bool) -> list[str]:
    """Returns the name of each objective: SLO/objective, or the SLO's where there is one and it may stand `alone`."""
    display_names = [section.text("displayName") for section in sections]
    if len(sections) <= 1 and alone:
        return [slo_name] * len(sections)
    first_at: dict[str, Position] = {}
    names = []
    for i, (section, display_name) in enumerate(zip(sections, display_names, strict=True)):
        part = slug(display_name or "") or str(i)
        names.append(f"{slo_name}/{part}")
        first = first_at.setdefault(part, section.position)
        if first is not section.position:
            message = f"becomes the name {quoted(part)}, which line {first.line} has already; give each its own"
            section.refuse("displayName", message)
    return names


def read_target_ratio(section: Section) -> str | None:
    """Returns the target as a canonical decimal such as `0.999`, exactly, or None after a report."""
    is_percent = "targetPercent" in section.entries
    if is_percent and "target" in section.entries:
        section.refuse("targetPercent", "stands beside target; remove one of the two")
        return None
    if is_percent:
        name, example, most = "targetPercent", "99.9", 100
    else:
        name, example, most = "target", "0.999", 1
    text = section.number(name, example=example, missing="add `target: 0.999`")
    if text is None:
        return None
    value = Fraction(text)
    if not 0 < value < most:
        section.refuse(name, _target_message(name, text, value))
        return None
    target = canonical(text, -2 if is_percent else 0)
    if len(target) - len("0.") > TARGET_DIGITS_MAX:
        message = f"{quoted(text)} has more than {TARGET_DIGITS_MAX} digits after the point; write fewer"
        section.refuse(name, message)
        return None
    return target


def _target_message(name: str, text: str, value: Fraction) -> str:
    most, example, close = (1, "0.999", "0.9999") if name == "target" else (100, "99.9", "99.99")
    if name == "target" and 1 < value < 100:
        as_ratio = canonical(text, -2)
        return f"{quoted(text)} is not between 0 and 1; write `target: {as_ratio}` or `targetPercent: {text}`"
    if value == most:
        return f"{quoted(text)} leaves no error budget; write less, for example `{name}: {close}`"
    if value == 0:
        return f"{quoted(text)} is met whatever happens; write more than 0, for example `{name}: {example}`"
    return f"{quoted(text)} is not between 0 and {most}; write for example `{name}: {example}`"


def _good(section: Section, indicator: Indicator | None) -> Good:
    """Returns what is good: by the indicator, or by the objective's threshold. Anything after a report."""
    if indicator is None:
        return Good()
    if indicator.measured is not None:
        return read_threshold(section, indicator.measured)
    for name in ("op", "value"):
        if name in section.entries:
            section.refuse(name, "belongs to a thresholdMetric, this SLI has a ratioMetric; remove it")
    return indicator.good
