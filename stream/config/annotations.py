"""Our annotations in the metadata of a document: what OpenSLO has no field for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stream.config.durations import shorthand_minutes
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
SHORT_WINDOW = "qma/short-window"
CERTIFICATE = "qma/certificate"
FLOOR_PER_HOUR = "qma/floor-per-hour"

LINK_CHARACTERS_MAX = 2048

_COUNT = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
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
        short_window_minutes: Of an AlertCondition; None where nothing was said.
        certificate_none: Certificates do not claim the SLO.
        floor_per_hour: Events that there are every hour, at least; None where nothing was said.
    """

    sampling_none: bool = False
    empty_slice: EmptySlice | None = None
    slice_events_min: int | None = None
    runbook: str | None = None
    dashboard: str | None = None
    deploy_mute_minutes: int = 0
    short_window_minutes: int | None = None
    certificate_none: bool = False
    floor_per_hour: int | None = None


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
    CERTIFICATE: _Rule(kind="SLO", field="certificate_none", read=_certificate),
    FLOOR_PER_HOUR: _Rule(kind="SLO", field="floor_per_hour", read=_count_of_events),
    SHORT_WINDOW: _Rule(kind="AlertCondition", field="short_window_minutes", read=_short_window),
}


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
        if rule.kind != kind:
            fix = f"move it to the metadata of the {rule.kind}"
            metadata.refuse("annotations", f"`{key}` has no effect in {where or f'kind {kind}'}; {fix}")
            continue
        value = None if text is None else rule.read(text)
        if isinstance(value, _Wrong):
            annotations.refuse(key, value.message)
        elif value is not None:
            values[rule.field] = value
    return Annotations(**values)


def _unknown(key: str) -> str:
    guess = nearest(key, _RULES)
    fix = f"did you mean `{guess}`?" if guess else f"there are {', '.join(_RULES)}"
    return f"is not a known annotation; {fix}"
