"""Objectives over other objectives: the weighted mean of several, or how many of those that must exist are seen.

A composite's budget is made of minutes, each as good as its components were in it: a busy minute weighs as much as a
quiet one. Its components are objectives of any services; their indicators reach it through `qma.sli`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self

COMPONENTS_MAX = 500
"""Components of one composite."""

CALLS_MAX = 200
"""Edges of the call graph of one composite."""


class Missing(StrEnum):
    """What a component counts as in a minute in which it had no events."""

    IGNORE = "ignore"
    """The others share its weight. Where none has any, there is no data."""
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """An objective that a composite is made of.

    Args:
        service: Key of its service.
        objective: Its name.
        weight: Its weight, an exact decimal above 0.
    """

    service: str
    objective: str
    weight: str = "1"

    @property
    def name(self) -> str:
        """What it is called among the parts of the composite; no two have the same."""
        return f"{self.service}/{self.objective}"

    @property
    def weight_exact(self) -> Fraction:
        """The weight, exactly."""
        return Fraction(self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An edge of the call graph: what one service's client spans say about another.

    Args:
        caller: Key of the service that calls.
        callee: Key of the service that is called.
        objective: Name of the objective of `caller` that counts these calls. It is no component.
    """

    caller: str
    callee: str
    objective: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """What an objective over other objectives is made of.

    Args:
        components: At least one.
        missing: What a component without events counts as. Not looked at where `seen_minutes` is given.
        seen_minutes: None: each component is as good as its ratio. Otherwise it is good where it had an event within so
            many minutes, however that ended: an inventory.
        calls: The call graph among the components' services, which says whose fault is whose cause.
    """

    components: tuple[Component, ...]
    missing: Missing = Missing.IGNORE
    seen_minutes: int | None = None
    calls: tuple[Call, ...] = ()

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Service key and objective of everything that it has to hear of, components first."""
        own = [(component.service, component.objective) for component in self.components]
        return tuple(dict.fromkeys([*own, *((call.caller, call.objective) for call in self.calls)]))

    def dump(self) -> dict[str, Any]:
        """Returns plain values; `load` gives back an equal one."""
        return asdict(self)

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        return cls(
            components=tuple(Component(**component) for component in body["components"]),
            missing=Missing(body["missing"]),
            seen_minutes=body["seen_minutes"],
            calls=tuple(Call(**call) for call in body["calls"]),
        )
