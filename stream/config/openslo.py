"""OpenSLO v1 files in, a frozen configuration out, or one error with a line per problem.

Accepted are all kinds of OpenSLO v1, and some of our own: BudgetAdjustment, which OpenSLO plans for v2, Maintenance,
Composite and Inventory.
What a metric's source is lies in our own selector (see `selector`). Everything else is refused with a line that says
so: a field that is passed over in silence is a promise that nobody keeps.

Source: OpenSLO specification v1, https://github.com/OpenSLO/OpenSLO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from stream.config import lints
from stream.config.alert_policies import AlertDocuments, Named, read_condition, read_policy, read_target
from stream.config.annotations import Annotations
from stream.config.composites import CompositeDocument, Known, composed, read_composite
from stream.config.declarations import read_adjustment, read_maintenance
from stream.config.documents import SPEC_FIELDS, Document, Files, read_files
from stream.config.expectations import check_expectations
from stream.config.inventories import read_inventory
from stream.config.metadata import FIELDS as METADATA_FIELDS
from stream.config.metadata import check_description, read_metadata
from stream.config.objectives import Declared, Slo, read_objectives
from stream.config.problems import FILE_START, Problem, in_order, refuse_if_any
from stream.config.sections import Section
from stream.config.selector import SOURCE_TYPE, Indicator, read_indicator
from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment, Mute
from stream.core.slo.spec import Objective

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the files say.

    Args:
        objectives: Of all SLOs, in the order of the files; cohorts behind the objective that they are parts of.
        calendars: Those that the objectives name, each once.
        adjustments: Minutes that do not count against budgets.
        mutes: Times in which notifications are held back.
    """

    objectives: tuple[Objective, ...]
    calendars: tuple[Calendar, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    mutes: tuple[Mute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _References:
    """What an SLO can refer to by name."""

    indicators: Named[Indicator]
    source_types: Mapping[str, str | None]
    alerts: AlertDocuments


def load_configuration(paths: Sequence[Path], *, now_ns: int) -> Configuration:
    """Returns what the files say.

    Args:
        paths: YAML files with one or more documents each; they may refer to each other.
        now_ns: Present time: the periods of calendar windows are computed for some years around it.

    Raises:
        ConfigError: When anything is wrong. Its message has one line for every problem in every file:
            `file:line:column: field: what is wrong; how to fix it`.
    """
    configuration, problems = read_configuration(paths, now_ns=now_ns)
    refuse_if_any(problems)
    return configuration


def read_configuration(
    paths: Sequence[Path], *, now_ns: int, events_per_hour: Fraction | None = None
) -> tuple[Configuration, list[Problem]]:
    """Returns what could be read of the files, and every problem and warning in order.

    Args:
        paths: As of `load_configuration`.
        now_ns: Present time.
        events_per_hour: Events of each objective, where somebody knows: it gives warnings of low traffic.
    """
    files = read_files(paths)
    references = _read_references(files)
    declared = _objectives(files, references, now_ns)
    check_expectations(files.of_kind("SLO"), declared, complete=files.complete and not _any_wrong(files))
    configuration = Configuration(
        objectives=tuple(one.objective for one in declared),
        calendars=tuple({one.calendar.name: one.calendar for one in declared if one.calendar}.values()),
        adjustments=_declarations(files, "BudgetAdjustment", declared, read_adjustment),
        mutes=_declarations(files, "Maintenance", declared, read_maintenance),
    )
    if not declared and not _any_wrong(files):
        message = "no document has the kind SLO or Inventory, so there is nothing to apply; pass a file with an SLO"
        first = str(paths[0]) if paths else "(no file)"
        files.problems.append(Problem(file=first, position=FILE_START, path="kind", message=message))
    if not _any_wrong(files):
        lints.warn(declared, events_per_hour)
    return configuration, in_order(files.problems, map(str, paths))


def _objectives(files: Files, references: _References, now_ns: int) -> list[Declared]:
    """Returns the objectives of all documents, those over others behind these."""
    declared = [one for document in files.of_kind("SLO") for one in _slo_objectives(document, references, now_ns)]
    names = {document.name or "" for kind in ("Composite", "Inventory") for document in files.of_kind(kind)}
    known = Known(declared=tuple(declared), names=names, complete=files.complete and not _any_wrong(files))
    for document in files.of_kind("Composite"):
        if document.spec is not None:
            composite = CompositeDocument(document.name or "", document.annotations, document.spec)
            declared += read_composite(composite, known, references.alerts, now_ns)
    for document in files.of_kind("Inventory"):
        if document.spec is not None:
            inventory = CompositeDocument(document.name or "", document.annotations, document.spec)
            declared += read_inventory(inventory, references.alerts, now_ns)
    return declared


def _any_wrong(files: Files) -> bool:
    return any(not problem.is_warning for problem in files.problems)


def _read_references(files: Files) -> _References:
    """Returns what SLOs can refer to; of two documents that share a name the first."""
    source_types = _by_name(files, "DataSource", lambda spec, *_: _source_type(spec))
    indicators = _by_name(files, "SLI", lambda spec, *_: read_indicator(spec, source_types))
    alerts = AlertDocuments(
        targets=_named(files, "AlertNotificationTarget", lambda spec, name, _: read_target(spec, name)),
        conditions=_named(files, "AlertCondition", lambda spec, _, annotations: read_condition(spec, annotations)),
    )
    policies = _named(files, "AlertPolicy", lambda spec, name, _: read_policy(spec, name, alerts))
    return _References(
        indicators=Named(kind="SLI", by_name=indicators, complete=files.complete),
        source_types=source_types,
        alerts=AlertDocuments(policies=policies, conditions=alerts.conditions, targets=alerts.targets),
    )


def _named(files: Files, kind: str, read: Callable[[Section, str, Annotations], T | None]) -> Named[T]:
    return Named(kind=kind, by_name=_by_name(files, kind, read), complete=files.complete)


def _by_name(files: Files, kind: str, read: Callable[[Section, str, Annotations], T | None]) -> dict[str, T | None]:
    """Returns what the documents of a kind say, by name; None where it was refused."""
    found: dict[str, T | None] = {}
    for document in files.of_kind(kind):
        value = None if document.spec is None else read(document.spec, document.name or "", document.annotations)
        if document.name is not None:
            found.setdefault(document.name, value)
    return found


def _source_type(spec: Section) -> str | None:
    spec.section("connectionDetails", None)
    return spec.text("type", missing=f"add `type: {SOURCE_TYPE}`")


def _slo_objectives(document: Document, references: _References, now_ns: int) -> list[Declared]:
    if document.spec is None:
        return []
    slo = Slo(
        name=document.name,
        annotations=document.annotations,
        read_indicator=lambda section: _indicator_of(section, references),
        spec=document.spec,
    )
    declared = read_objectives(slo, references.alerts, now_ns)
    return [*declared, *composed(slo, declared)]


def _indicator_of(spec: Section, references: _References) -> tuple[Indicator | None, str | None]:
    """Returns the indicator of an SLO or an objective, inline or referred to, and its name; None after a report."""
    if "indicatorRef" not in spec.entries:
        return _inline_indicator(spec, references)
    if "indicator" in spec.entries:
        spec.refuse("indicatorRef", "stands beside indicator; remove one of the two")
        return _inline_indicator(spec, references)
    return references.indicators.refer(spec, "indicatorRef"), spec.text("indicatorRef")


def _inline_indicator(spec: Section, references: _References) -> tuple[Indicator | None, str | None]:
    missing = "add `indicator:` with `metadata` and `spec`, or `indicatorRef:` with the name of an SLI"
    inline = spec.section("indicator", ("metadata", "spec"), missing=missing)
    if inline is None:
        return None, None
    section = inline.section("metadata", METADATA_FIELDS)
    metadata = None if section is None else read_metadata(section, "SLI", "an indicator")
    inner = inline.section("spec", SPEC_FIELDS["SLI"], missing="add `spec:` with `ratioMetric` or `thresholdMetric`")
    if inner is None:
        return None, None
    check_description(inner)
    return read_indicator(inner, references.source_types), metadata.name if metadata else None


def _declarations(
    files: Files, kind: str, declared: Sequence[Declared], read: Callable[..., T | None]
) -> tuple[T, ...]:
    """Returns what the documents of a kind declare about the objectives that there are, sorted by name."""
    complete = files.complete and not _any_wrong(files)
    found = {
        document.name: read(document.spec, document.name, declared, complete=complete)
        for document in files.of_kind(kind)
        if document.spec is not None and document.name is not None
    }
    return tuple(value for _, value in sorted(found.items()) if value is not None)
