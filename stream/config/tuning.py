"""Settings that an operator may change with `NAME=VALUE`. They travel in the log, as decisions depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from stream.config.problems import nearest, quoted, shown
from stream.core.errors import ConfigError
from stream.core.otlp import Limits
from stream.core.slo.spec import Settings
from stream.core.units import SECOND_NS

DEFAULT = "default"
"""The value that puts a setting back to its default."""

RANGES: Mapping[str, tuple[int, int]] = {
    "allowed_lateness_s": (0, 600),
    "catching_up_after_s": (60, 86_400),
    "services_max": (1, 100_000),
    "versions_max": (1, 10_000),
    "cohorts_max": (1, 1000),
    "streams_max": (1, 10_000_000),
    "duplicate_minutes": (0, 60),
    "notifications_per_hour_max": (1, 1000),
    "limits.message_bytes": (1 << 10, 256 << 20),
    "limits.items": (1, 1_000_000),
    "limits.attributes": (1, 4096),
    "limits.value_bytes": (16, 65_536),
    "limits.depth": (4, 32),
    "limits.explicit_buckets": (1, 4096),
    "limits.exponential_buckets": (1, 4096),
}
"""Least and most value of each."""

_SECONDS = "_s"

_Section = TypeVar("_Section", Settings, Limits)


def tuned(settings: Settings, changes: Sequence[str]) -> Settings:
    """Returns the settings with the changes `NAME=VALUE`, in order; `NAME=default` puts one back.

    Raises:
        ConfigError: When a change is malformed, its name is not known or its value out of range.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {shown(change)}: write NAME=VALUE, for example duplicate_minutes=0")
        if name not in RANGES:
            guess = nearest(name, RANGES)
            fix = f"did you mean `{guess}`?" if guess else f"settings are {', '.join(RANGES)}"
            raise ConfigError(f"--set {shown(change)}: there is no setting {quoted(name)}; {fix}")
        settings = _changed(settings, name, text)
    return settings


def _changed(settings: Settings, name: str, text: str) -> Settings:
    _, dot, limit = name.partition(".")
    if dot:
        return replace(settings, limits=_with(settings.limits, limit, name, text))
    return _with(settings, name, name, text)


def _with(section: _Section, attribute: str, name: str, text: str) -> _Section:
    """Returns a section with one value changed. What is said in seconds is held in nanoseconds."""
    in_seconds = name.endswith(_SECONDS)
    attribute = attribute.removesuffix(_SECONDS) + "_ns" if in_seconds else attribute
    if text == DEFAULT:
        value = getattr(type(section)(), attribute)
    else:
        value = _value(name, text) * (SECOND_NS if in_seconds else 1)
    changes: dict[str, Any] = {attribute: value}
    return replace(section, **changes)


def _value(name: str, text: str) -> int:
    least, most = RANGES[name]
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise ConfigError(f"--set {name}={shown(text)}: write a whole number from {least} to {most}, or `{DEFAULT}`")
    return int(text)
