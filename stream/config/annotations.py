"""Our annotations in the metadata of a document: what OpenSLO has no field for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from stream.config.durations import shorthand_minutes
from stream.config.numbers import canonical
from stream.config.problems import either, nearest, quoted
from stream.config.sections import Section
from stream.core.slo.alerts import DEPLOY_MUTE_MINUTES_MAX
from stream.core.slo.spec import EmptySlice

PREFIX = "qma/"
SAMPLING = "qma/sampling"
EMPTY_SLICE = "qma/empty-slice"
SLICE_EVENTS_MIN = "qma/slice-events-min"
RUNBOOK = "qma/runbook"
DASHBOARD = "qma/dashboard"
DEPLOY_MUTE = "qma/deploy-mute"
COOLDOWN = "qma/cooldown"
SHORT_WINDOW = "qma/short-window"
CERTIFICATE = "qma/certificate"
FLOOR_PER_HOUR = "qma/floor-per-hour"
EXPECTED_FROM = "qma/expected-from"
EXPECTED_TOLERANCE = "qma/expected-tolerance"
LOST_BY = "qma/lost-by"
COHORT_GAP_MAX = "qma/cohort-gap-max"
COMPOSITE_TARGET = "qma/composite-target"

LINK_CHARACTERS_MAX = 2048
LOST_BY_MAX = 10

COOLDOWN_MINUTES_MAX = 60
"""An alert that goes on for longer after the burning has stopped tells nobody anything."""

_COUNT = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_RATIO = re.compile(r"0?\.[0-9]{1,12}", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,9})?)%", re.ASCII)
_LINK = re.compile(r"https?://\S+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What our annotations say.

    Args:
        sampling_none: The producers do not sample.
        empty_slice: What a slice with too few events counts as; None where nothing was said.
        slice_events_min: Events that a slice needs to be judged; None where nothing was said.
        runbook: Link to what to do.
        dashboard: Link to where to look.
        deploy_mute_minutes: After a new version appears, notifications are held back for this long.
        cooldown_minutes: An alert ends when it has not burned for this long.
        short_window_minutes: Of an AlertCondition; None where nothing was said.
        certificate_none: Certificates do not claim the SLO.
        floor_per_hour: Events that there are every hour, at least; None where nothing was said.
        composite_target: The target, as a canonical decimal, of the composite that an SLO's objectives make.
        expected_from: Name of the objective that tells how many events there must be; None where nothing was said.
        expected_tolerance: Share of these that may be missing, as a canonical decimal; '' where nothing was said.
        lost_by: Names of the objectives that tell what was lost on the way here.
        cohort_gap_max: How much worse than everyone a cohort may be, as a canonical decimal; None: nothing was said.
        section: Where they stand; None where there are none.
    """

    sampling_none: bool = False
    empty_slice: EmptySlice | None = None
    slice_events_min: int | None = None
    runbook: str | None = None
    dashboard: str | None = None
    deploy_mute_minutes: int = 0
    cooldown_minutes: int = 0
    short_window_minutes: int | None = None
    certificate_none: bool = False
    floor_per_hour: int | None = None
    composite_target: str | None = None
    expected_from: str | None = None
    expected_tolerance: str = ""
    lost_by: tuple[str, ...] = ()
    cohort_gap_max: str | None = None
    section: Section | None = field(default=None, compare=False, repr=False)

    def refuse(self, key: str, message: str) -> None:
        """Reports a problem of one that was read."""
        assert self.section is not None, "what was read stands somewhere"
        self.section.refuse(key, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """One annotation: the kind of document it belongs to, the field it fills, and what reads or refuses its value."""

    kind: str
    field: str
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class _Wrong:
    """What is wrong with a value, and how to fix it."""

    message: str


def _sampling(text: str) -> bool | _Wrong:
    fix = "write `none` if the producers send every span, otherwise remove the annotation"
    return True if text == "none" else _Wrong(f"{quoted(text)} is no value of this annotation; {fix}")


def _empty_slice(text: str) -> EmptySlice | _Wrong:
    if text not in tuple(EmptySlice):
        return _Wrong(f"{quoted(text)} is no value of this annotation; write {either(EmptySlice)}")
    return EmptySlice(text)


def _certificate(text: str) -> bool | _Wrong:
    fix = "write `none` to leave the SLO out of certificates, otherwise remove the annotation"
    return True if text == "none" else _Wrong(f"{quoted(text)} is no value of this annotation; {fix}")


def _count_of_events(text: str) -> int | _Wrong:
    if not _COUNT.fullmatch(text):
        return _Wrong(f'{quoted(text)} is no number of events; write a whole number from 1 on, in quotes: `"10"`')
    return int(text)


def _ratio(text: str) -> str | _Wrong:
    if not _RATIO.fullmatch(text) or not 0 < Fraction(text) < 1:
        return _Wrong(f'{quoted(text)} is no target; write a number above 0 and below 1, in quotes: `"0.99"`')
    return canonical(text)


def _share(text: str) -> str | _Wrong:
    found = _PERCENT.fullmatch(text)
    if not found or not Fraction(found[1]):
        fix = 'write more than 0 and less than 100 percent, in quotes: `"0.5%"`'
        return _Wrong(f"{quoted(text)} is no share; {fix}")
    return canonical(found[1], -2)


def _names(text: str) -> tuple[str, ...] | _Wrong:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(names) > LOST_BY_MAX or len(set(names)) < len(names):
        fix = f"write 1 to {LOST_BY_MAX} names of objectives, each once, with commas between"
        return _Wrong(f"{quoted(text)} is no list of names; {fix}")
    return names


def _link(text: str) -> str | _Wrong:
    if len(text) > LINK_CHARACTERS_MAX or not _LINK.fullmatch(text):
        return _Wrong(f"{quoted(text)} is no link; write an address that starts with `https://` or `http://`")
    return text


def _deploy_mute(text: str) -> int | _Wrong:
    minutes = shorthand_minutes(text)
    if minutes is None:
        return _Wrong(f"{quoted(text)} is not a length of time; write minutes, for example `15m`")
    if minutes > DEPLOY_MUTE_MINUTES_MAX:
        most = f"{DEPLOY_MUTE_MINUTES_MAX}m"
        return _Wrong(f"{quoted(text)} is longer than a deploy may mute alerts; write `{most}` or less")
    return minutes


def _cooldown(text: str) -> int | _Wrong:
    minutes = shorthand_minutes(text)
    if minutes is None:
        return _Wrong(f"{quoted(text)} is not a length of time; write minutes, for example `10m`")
    if minutes > COOLDOWN_MINUTES_MAX:
        return _Wrong(f"{quoted(text)} is longer than an alert may go on for; write `{COOLDOWN_MINUTES_MAX}m` or less")
    return minutes


def _short_window(text: str) -> int | _Wrong:
    minutes = shorthand_minutes(text)
    fix = "write a whole number and one of m, h, d, w, for example `5m`"
    return _Wrong(f"{quoted(text)} is not a length of time; {fix}") if minutes is None else minutes


_RULES: Mapping[str, _Rule] = {
    SAMPLING: _Rule(kind="SLO", field="sampling_none", read=_sampling),
    EMPTY_SLICE: _Rule(kind="SLO", field="empty_slice", read=_empty_slice),
    SLICE_EVENTS_MIN: _Rule(kind="SLO", field="slice_events_min", read=_count_of_events),
    RUNBOOK: _Rule(kind="SLO", field="runbook", read=_link),
    DASHBOARD: _Rule(kind="SLO", field="dashboard", read=_link),
    DEPLOY_MUTE: _Rule(kind="SLO", field="deploy_mute_minutes", read=_deploy_mute),
    COOLDOWN: _Rule(kind="SLO", field="cooldown_minutes", read=_cooldown),
    CERTIFICATE: _Rule(kind="SLO", field="certificate_none", read=_certificate),
    FLOOR_PER_HOUR: _Rule(kind="SLO", field="floor_per_hour", read=_count_of_events),
    COMPOSITE_TARGET: _Rule(kind="SLO", field="composite_target", read=_ratio),
    EXPECTED_FROM: _Rule(kind="SLO", field="expected_from", read=str),
    EXPECTED_TOLERANCE: _Rule(kind="SLO", field="expected_tolerance", read=_share),
    LOST_BY: _Rule(kind="SLO", field="lost_by", read=_names),
    COHORT_GAP_MAX: _Rule(kind="SLO", field="cohort_gap_max", read=_share),
    SHORT_WINDOW: _Rule(kind="AlertCondition", field="short_window_minutes", read=_short_window),
}

_OF_COMPOSITES: Mapping[str, tuple[str, ...]] = {
    "Composite": (RUNBOOK, DASHBOARD, COOLDOWN, EMPTY_SLICE, SLICE_EVENTS_MIN),
    "Inventory": (RUNBOOK, DASHBOARD, COOLDOWN),
}
"""Annotations of SLOs that other kinds have as well."""


def read_annotations(metadata: Section, kind: str, where: str | None = None) -> Annotations:
    """Returns what our annotations in a `metadata` section say, after reporting what is wrong with them.

    Annotations of other tools are left alone. A misspelling of ours must not be passed over, and neither must one
    that stands where it would change nothing.

    Args:
        metadata: The section.
        kind: Of the document.
        where: Names the place in messages; None: by the kind.
    """
    annotations = metadata.section("annotations", None)
    if annotations is None:
        return Annotations()
    values: dict[str, Any] = {}
    for key, entry in annotations.entries.items():
        text = annotations.text(key)
        rule = _RULES.get(key)
        if rule is None:
            if key.startswith(PREFIX):
                annotations.refuse_at(entry.key_position, annotations.path_of(key), _unknown(key))
            continue
        if rule.kind != kind and key not in _OF_COMPOSITES.get(kind, ()):
            fix = f"move it to the metadata of the {rule.kind}"
            metadata.refuse("annotations", f"`{key}` has no effect in {where or f'kind {kind}'}; {fix}")
            continue
        value = None if text is None else rule.read(text)
        if isinstance(value, _Wrong):
            annotations.refuse(key, value.message)
        elif value is not None:
            values[rule.field] = value
    return Annotations(**values, section=annotations)


def _unknown(key: str) -> str:
    guess = nearest(key, _RULES)
    fix = f"did you mean `{guess}`?" if guess else f"there are {', '.join(_RULES)}"
    return f"is not a known annotation; {fix}"
