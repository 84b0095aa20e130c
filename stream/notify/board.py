"""Which alerts fire and are told to people, and which of them ended a short while ago.

Pure: records of `qma.status` and `qma.burn-rate` in, alerts as Alertmanager wants them out. The status of an objective
says what fires; the events say why, and that an alert ended of which no status speaks any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from stream.core.rendering import rfc3339
from stream.core.service_key import ABSENT_NAMESPACE, split_service_key
from stream.core.units import MINUTE_NS
from stream.notify.events import BURN_RATE, STATUS, Event, read_event

ALERT_NAME = "ObjectiveAtRisk"
"""Value of the label `alertname`: true of every rule, so that an alert keeps its identity whatever is known of it."""

RESOLVED_KEPT_NS = 5 * MINUTE_NS
"""A resolution is repeated this long after it was published: an Alertmanager that was away for a moment hears of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert as Alertmanager takes it.

    Args:
        labels: Its identity: names only, never figures, versions or times.
        annotations: What people read.
        starts_at: RFC 3339.
        ends_at: RFC 3339; None while it fires.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: str
    ends_at: str | None = None

    @property
    def identity(self) -> str:
        """The id of objective and rule, the same each time that it fires."""
        return self.labels["qma_alert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """The latest event of an alert."""

    state: str
    offset: int
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Status:
    """What of a status is kept: there are many, and few have alerts."""

    offset: int
    pipeline: str
    service: str
    objective: str
    target: str
    links: Mapping[str, str | None]
    alerts: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, event: Event) -> Self:
        """Returns what is kept of an event.

        Raises:
            ValueError: An alert began at no time.
            TypeError: Likewise.
        """
        data = event["data"]
        for entry in data["alerts"]:
            datetime.fromisoformat(entry["began_at"])  # how far back events are read depends on it
        return cls(
            offset=data["log"]["offset"],
            pipeline=event["source"].split("/")[2],
            service=data["service"],
            objective=data["objective"],
            target=data["target"],
            links=data.get("links", {}),
            alerts=tuple(data["alerts"]),
        )


@dataclass(slots=True)
class _Objective:
    """What is known of one objective; `status` is None before its first record."""

    status: _Status | None = None
    said: dict[str, _Said] = field(default_factory=dict)
    firing: dict[str, Alert] = field(default_factory=dict)

    @property
    def offset(self) -> int:
        """The log offset that the status was decided at."""
        return -1 if self.status is None else self.status.offset

    def fires(self) -> dict[str, Alert]:
        """Returns the alerts that fire and were told, by their ids."""
        if self.status is None:
            return {}
        told = [entry for entry in self.status.alerts if entry["state"] == "firing" and entry["told"]]
        return {
            entry["alert"]: _alert(self.status, entry, self.said.get(entry["alert"]))
            for entry in told
            if not self._ended_since(entry["alert"])
        }

    def _ended_since(self, alert: str) -> bool:
        said = self.said.get(alert)
        return said is not None and said.state == "resolved" and said.offset > self.offset


class Board:
    """The alerts of a pipeline. Records of one partition must come in their order; partitions in any."""

    def __init__(self) -> None:
        self._objectives: dict[str, _Objective] = {}
        self._resolved: dict[str, tuple[Alert, int]] = {}

    def alerts(self, now_ns: int) -> list[Alert]:
        """Returns what fires, and what ended less than five minutes ago."""
        self._resolved = {name: found for name, found in self._resolved.items() if found[1] > now_ns}
        firing = [alert for objective in self._objectives.values() for alert in objective.firing.values()]
        return [*firing, *(alert for alert, _ in self._resolved.values())]

    def fires_since(self) -> str | None:
        """Returns when the oldest of the alerts that fire began, in RFC 3339; None where none fires."""
        firing = [alert.starts_at for objective in self._objectives.values() for alert in objective.firing.values()]
        return min(firing, default=None)

    def take_status(self, key: bytes, value: bytes | None, time_ns: int) -> bool:
        """Takes in a record of `qma.status`; without a value the objective is gone. Returns whether alerts changed.

        Args:
            key: `service/objective`.
            value: The event.
            time_ns: When the record was published.

        Raises:
            IncompatibleError: When another version wrote it.
            ValueError: When it is no CloudEvent.
        """
        name = key.decode()
        if value is None:
            gone = self._objectives.pop(name, _Objective())
            gone.status = None
            return self._compare(gone, rfc3339(time_ns), time_ns)
        event = read_event(value, STATUS)
        if event is None:
            return False
        objective = self._objectives.setdefault(name, _Objective())
        objective.status = _Status.of(event)
        listed = {entry["alert"] for entry in objective.status.alerts}
        if objective.said:
            # What ended is heard of no more; an event that is ahead of the status may be of an alert not listed yet.
            objective.said = {
                alert: said
                for alert, said in objective.said.items()
                if alert in listed or alert in objective.firing or said.offset > objective.offset
            }
        return bool(listed or objective.firing) and self._compare(objective, event["data"]["as_of"], time_ns)

    def take_burn_rate(self, value: bytes, time_ns: int) -> bool:
        """Takes in a record of `qma.burn-rate`. Returns whether alerts changed.

        Args:
            value: The event.
            time_ns: When the record was published.

        Raises:
            IncompatibleError: When another version wrote it.
            ValueError: When it is no CloudEvent.
        """
        event = read_event(value, BURN_RATE)
        if event is None:
            return False
        data = event["data"]
        alert, state, explanation = data["alert"], data["state"], data["explanation"]
        objective = self._objectives.setdefault(f"{data['service']}/{data['objective']}", _Objective())
        objective.said[alert] = _Said(state=state, offset=data["log"]["offset"], explanation=explanation)
        changed = self._compare(objective, event["time"], time_ns)
        if state == "resolved" and alert in self._resolved:
            ended, until_ns = self._resolved[alert]
            annotations = {**ended.annotations, "description": explanation}
            self._resolved[alert] = replace(ended, annotations=annotations), until_ns
            changed = True
        return changed

    def _compare(self, objective: _Objective, ends_at: str, time_ns: int) -> bool:
        before, objective.firing = objective.firing, objective.fires()
        for name in before.keys() - objective.firing.keys():
            # Alertmanager refuses an alert that ends before it starts.
            ended = replace(before[name], ends_at=max(before[name].starts_at, ends_at))
            self._resolved[name] = ended, time_ns + RESOLVED_KEPT_NS
        for name in objective.firing:
            self._resolved.pop(name, None)
        return before != objective.firing


def _alert(status: _Status, entry: Mapping[str, Any], said: _Said | None) -> Alert:
    service, objective, rule = status.service, status.objective, entry["rule"]
    environment, namespace, _ = split_service_key(service)
    labels = {
        "alertname": ALERT_NAME,
        "severity": entry["severity"],
        "pipeline": status.pipeline,
        "service": service,
        "environment": environment,
        "namespace": "" if service.split("/")[1] == ABSENT_NAMESPACE else namespace,
        "objective": objective,
        "rule": rule,
        "qma_alert": entry["alert"],
        "sloth_id": f"{service}-{objective}",
    }
    # The event may still be on its way, or be older than its topic is kept.
    explanation = said.explanation if said is not None and said.state == "firing" else ""
    annotations = {
        "summary": f"{service}: {objective} (target {status.target}) is at risk: {rule}",
        "description": explanation or f"{rule} has burned since {entry['began_at']}.",
        "runbook_url": status.links.get("runbook") or "",
        "dashboard_url": status.links.get("dashboard") or "",
    }
    return Alert(labels=_filled(labels), annotations=_filled(annotations), starts_at=entry["began_at"])


def _filled(texts: Mapping[str, str]) -> dict[str, str]:
    """Returns what has a text: for Alertmanager an empty label is an absent one."""
    return {name: text for name, text in texts.items() if text}
