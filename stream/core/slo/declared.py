"""What operators declare about stretches of time: budget adjustments and muted notifications. Minutes are half-open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """Minutes that do not count against the error budget of some objectives, nor do slices that hold one of them.

    Declared before a minute closes it is a planned exclusion. Declared afterwards it changes the budget, and never a
    statistical test: nobody can explain failures away after having seen them.

    Args:
        name: Of the declaration.
        objectives: Names of the objectives that it is for.
        start_minute: First minute left out.
        end_minute: First minute that counts again.
        reason: Why, for the ledger.
    """

    name: str
    objectives: tuple[str, ...]
    start_minute: int
    end_minute: int
    reason: str = ""

    def dump(self) -> dict[str, Any]:
        """Returns plain values; `load` gives back an equal one."""
        return asdict(self)

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        return cls(**{**body, "objectives": tuple(body["objectives"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """A time in which notifications are held back. Decisions and events go on; it ends by itself.

    Args:
        name: Of the declaration.
        services: Keys of the services that it is for; () for all.
        start_minute: First muted minute.
        end_minute: First minute that is told again.
        reason: Why, for the explanation of what was held back.
    """

    name: str
    services: tuple[str, ...]
    start_minute: int
    end_minute: int
    reason: str = ""

    def covers(self, service: str, minute: int) -> bool:
        """Returns whether it holds back what a service has to tell of a minute."""
        return self.start_minute <= minute < self.end_minute and (not self.services or service in self.services)

    def dump(self) -> dict[str, Any]:
        """Returns plain values; `load` gives back an equal one."""
        return asdict(self)

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        return cls(**{**body, "services": tuple(body["services"])})
