"""Alerts of one objective: which rules it has, and the states that each of them goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self

from stream.core.slo.burn_rate import DEFAULT_RULES, BurnRule, RuleKind, Severity

DEPLOY_MUTE_MINUTES_MAX = 30
"""A deploy holds notifications back for so long at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """How an objective's alerts are decided and told. No part of its digest: an edit keeps the objective's history.

    Args:
        rules: What may fire.
        at_least: Compare burn rates with >= instead of >.
        low_traffic_guard: Fire on a burn rate only where the lower 95 % bound of the long window's exceeds 1.
        cooldown_minutes: An alert resolves when it has not burned for this long; 0: at once.
        notify_resolved: Tell of resolutions, too.
        deploy_mute_minutes: After a new version appears, notifications are held back for this long.
        targets: Names of the notification targets.
        runbook: Link to what to do.
        dashboard: Link to where to look.
    """

    rules: tuple[BurnRule, ...] = DEFAULT_RULES
    at_least: bool = False
    low_traffic_guard: bool = True
    cooldown_minutes: int = 0
    notify_resolved: bool = True
    deploy_mute_minutes: int = 0
    targets: tuple[str, ...] = ()
    runbook: str | None = None
    dashboard: str | None = None

    def dump(self) -> dict[str, Any]:
        """Returns what differs from the defaults as plain values; `load` gives back an equal one."""
        body = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        if "rules" in body:
            body["rules"] = [_dump_rule(rule) for rule in self.rules]
        return body

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        values = dict(body)
        if "rules" in values:
            values["rules"] = tuple(_load_rule(rule) for rule in values["rules"])
        if "targets" in values:
            values["targets"] = tuple(values["targets"])
        return cls(**values)


def _dump_rule(rule: BurnRule) -> dict[str, Any]:
    values = {f.name: value for f in fields(rule) if (value := getattr(rule, f.name)) != f.default}
    return {name: str(value) if isinstance(value, Fraction) else value for name, value in values.items()}


def _load_rule(body: Mapping[str, Any]) -> BurnRule:
    values = {**body, "severity": Severity(body["severity"])}
    for name in ("budget_share", "fixed_factor", "gap_max"):
        if name in body:
            values[name] = Fraction(body[name])
    if "kind" in body:
        values["kind"] = RuleKind(body["kind"])
    if "inhibited_by" in body:
        values["inhibited_by"] = tuple(body["inhibited_by"])
    return BurnRule(**values)


class AlertState(StrEnum):
    """States of an alert. `resolved` is the name of the change from firing back to inactive."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class AlertTrigger(StrEnum):
    """What moves an alert."""

    BURNS = "burns"
    HELD = "held"
    """It has burned for as long as the rule asks."""
    CLEAR = "clear"
    COOLED = "cooled"
    """It has been clear for as long as the cooldown asks."""


TRANSITIONS: dict[tuple[AlertState, AlertTrigger], AlertState] = {
    (AlertState.INACTIVE, AlertTrigger.BURNS): AlertState.PENDING,
    (AlertState.PENDING, AlertTrigger.HELD): AlertState.FIRING,
    (AlertState.PENDING, AlertTrigger.CLEAR): AlertState.INACTIVE,
    (AlertState.FIRING, AlertTrigger.COOLED): AlertState.INACTIVE,
}
"""Next state. No entry: nothing changes. A window without data decides nothing, so it triggers nothing."""


@dataclass(slots=True)
class Alert:
    """Where one rule of an objective stands.

    Args:
        state: Of `TRANSITIONS`.
        began_minute: First minute of the unbroken burning that led to pending and firing, also of the last that ended.
        clear_since: First minute in which a firing alert no longer burned; None while it burns.
        notified: The firing was told to people: then its resolution is, too.
        version: Version under suspicion when it fired; '' where none is.
    """

    state: AlertState = AlertState.INACTIVE
    began_minute: int | None = None
    clear_since: int | None = None
    notified: bool = False
    version: str = ""

    def step(self, minute: int, burning: bool | None, rule: BurnRule, cooldown_minutes: int) -> AlertState | None:
        """Takes in whether the rule burns at a closed minute. Returns the new state where it changed.

        An alert that need not wait passes through pending within the minute.
        """
        before = self.state
        if burning is None:
            return None
        if burning:
            self.clear_since = None
            if self._move(AlertTrigger.BURNS):
                self.began_minute = minute
            if self.began_minute is not None and minute - self.began_minute >= rule.for_minutes:
                self._move(AlertTrigger.HELD)
        else:
            if self.state is AlertState.FIRING and self.clear_since is None:
                self.clear_since = minute
            if self.clear_since is not None and minute - self.clear_since >= cooldown_minutes:
                self._move(AlertTrigger.COOLED)
            self._move(AlertTrigger.CLEAR)
            if self.state is AlertState.INACTIVE:
                self.clear_since = None
        return self.state if self.state is not before else None

    def _move(self, trigger: AlertTrigger) -> bool:
        after = TRANSITIONS.get((self.state, trigger))
        if after is not None:
            self.state = after
        return after is not None

    def dump(self) -> list[Any]:
        """Returns the alert as plain values; `load` gives back an equal one."""
        return [self.state, self.began_minute, self.clear_since, self.notified, self.version]

    @classmethod
    def load(cls, body: list[Any] | str) -> Self:
        """Returns the alert that `dump` wrote, or a version that kept the state alone."""
        if isinstance(body, str):
            return cls(AlertState(body), notified=body == AlertState.FIRING)
        state, *rest = body
        return cls(AlertState(state), *rest)
