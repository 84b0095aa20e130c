"""The values that PromQL matchers of one label let through, as far as they can be listed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stream.config.problems import quoted
from stream.config.promql import Matcher
from stream.config.wanted import not_comparable
from stream.core.errors import ConfigError
from stream.core.slo.selection import can_be_compared
from stream.core.slo.spec import ANY_VALUE, NO_VALUE

VALUES_MAX = 600
PATTERN_CHARACTERS_MAX = 500
HTTP_STATUS_CODES = tuple(str(code) for code in range(100, 600))
"""Source: RFC 9110, section 15: a status code is a number from 100 to 599."""

_HTTP_STATUS_LABELS = frozenset(
    (
        "code",
        "status",
        "status_code",
        "response_code",
        "http_code",
        "http_status",
        "http_status_code",
        "http_response_status_code",
        "http.status_code",
        "http.response.status_code",
    )
)
_EVERYTHING = (".*", "^.*$", "(.*)")
_ANYTHING = (".+", "^.+$", "(.+)")
_LITERAL = re.compile(r"[^\\.^$|?*+()\[\]{}]|\\[^a-zA-Z0-9]", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelValues:
    """What a label may hold; `NO_VALUE` is no label, which to Prometheus is the same as an empty one.

    Args:
        allowed: The values that pass; None for all, and for series without the label, but the refused ones.
        refused: Where everything else passes: the values that do not.
    """

    allowed: frozenset[str] | None = None
    refused: frozenset[str] = frozenset()


def label_values(matchers: Sequence[Matcher]) -> LabelValues:
    """Returns what all matchers of one label let through together.

    A regular expression over a label that holds HTTP status codes stands for the codes 100 to 599 that it matches.

    Raises:
        ConfigError: A regular expression stands for values that cannot be listed.
    """
    allowed: frozenset[str] | None = None
    refused: frozenset[str] = frozenset()
    for matcher in matchers:
        if matcher.operator == "=~" and matcher.value in _EVERYTHING:
            continue
        if matcher.operator in ("=~", "!~") and matcher.value in _ANYTHING:
            matcher = replace(matcher, operator="!=" if matcher.operator == "=~" else "=", value="")
        values = _values(matcher)
        if matcher.operator in ("=", "=~"):
            allowed = values if allowed is None else allowed & values
        else:
            refused |= values
    if allowed is None:
        return LabelValues(refused=refused)
    if not allowed - refused:
        raise ConfigError(f"nothing can match {' and '.join(quoted(str(m)) for m in matchers)}; correct the values")
    return LabelValues(allowed=allowed - refused)


def _values(matcher: Matcher) -> frozenset[str]:
    """Returns the values that a matcher names, whether it wants them or not."""
    values = frozenset((matcher.value,)) if matcher.operator in ("=", "!=") else _listed(matcher)
    for value in values - {""}:
        if not can_be_compared(value):
            raise ConfigError(not_comparable(value, "the value of an attribute"))
        if value in (ANY_VALUE, NO_VALUE):
            what = "any value" if value == ANY_VALUE else "no value"
            raise ConfigError(f"{quoted(value)} means {what} in an SLO, and not itself; name other values")
    return frozenset(value or NO_VALUE for value in values)


def _listed(matcher: Matcher) -> frozenset[str]:
    """Returns the values that a regular expression stands for."""
    if len(matcher.value) > PATTERN_CHARACTERS_MAX:
        raise ConfigError(f"{quoted(str(matcher))} is too long a regular expression; write fewer values")
    pattern = matcher.value.removeprefix("^").removesuffix("$")
    values = _Alternation(pattern).values()
    if values is None and matcher.label in _HTTP_STATUS_LABELS:
        values = _status_codes(pattern)
    if values is None:
        fix = "write the values, as `first|second`, and a dot that is one as `\\.`"
        raise ConfigError(f"{quoted(str(matcher))} stands for values that cannot be listed; {fix}")
    return frozenset(values)


def _status_codes(pattern: str) -> list[str] | None:
    try:
        compiled = re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError):
        return None
    return [code for code in HTTP_STATUS_CODES if compiled.fullmatch(code)] or None


class _Alternation:
    """Lists what a regular expression of literals, `|` and brackets matches; nothing else can be listed."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at = pattern, 0

    def values(self) -> list[str] | None:
        """Returns the values, or None where the expression is another or has too many."""
        values = self._branches()
        return values if self._at == len(self._pattern) else None

    def _branches(self) -> list[str] | None:
        values = self._sequence()
        while values is not None and self._take("|"):
            more = self._sequence()
            values = None if more is None else values + more
        return values if values is None or len(values) <= VALUES_MAX else None

    def _sequence(self) -> list[str] | None:
        values = [""]
        while True:
            literal = _LITERAL.match(self._pattern, self._at)
            if literal:
                self._at = literal.end()
                values = [value + literal[0][-1] for value in values]
            elif self._take("(?:") or self._take("("):
                inner = self._branches()
                if inner is None or not self._take(")") or len(values) * len(inner) > VALUES_MAX:
                    return None
                values = [value + more for value in values for more in inner]
            else:
                return values

    def _take(self, text: str) -> bool:
        taken = self._pattern.startswith(text, self._at)
        self._at += len(text) if taken else 0
        return taken
