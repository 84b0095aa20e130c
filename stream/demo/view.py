"""What a reader of the output topics knows: events in, the latest state of every objective and certificate out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from stream.core.slo.explanation import share_text

Data = dict[str, Any]


@dataclass(slots=True)
class ObjectiveView:
    """The latest indicator of one objective, its alerts of which people were told (rule to severity), and when its
    budget will be gone."""

    service: str
    objective: str
    target: str
    minute: str = ""
    minute_ratio: float | None = None
    minute_n: int = 0
    window_ratio: float | None = None
    window_n: int = 0
    unit: str = "events"
    budget_left: tuple[float | None, float | None] = (None, None)
    burn_rates: dict[str, float | None] = field(default_factory=dict)
    firing: dict[str, str] = field(default_factory=dict)
    forecast: str = ""


@dataclass(slots=True)
class CertificateView:
    """The latest state of one certificate; `eta_minutes` is the time until decidable, None when nobody knows."""

    service: str
    version: str
    state: str = ""
    why: str = ""
    eta_minutes: int | None = None


@dataclass(slots=True)
class View:
    """Everything read so far.

    `seen` holds the id of every event, `repeated` counts ids that came again, `revisions` corrected indicators.
    """

    objectives: dict[tuple[str, str], ObjectiveView] = field(default_factory=dict)
    certificates: dict[tuple[str, str], CertificateView] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    revisions: int = 0
    seen: set[str] = field(default_factory=set)

    def take(self, topic: str, value: bytes) -> list[str]:
        """Enters an event of an output topic (its name after the prefix). Returns lines worth telling."""
        event = orjson.loads(value)
        if event["id"] in self.seen:
            self.repeated += 1
            return []
        self.seen.add(event["id"])
        self.events[topic] += 1
        data: Data = event["data"]
        match topic:
            case "sli" if "centroids" not in data:
                self._indicator(data)
                return []
            case "burn-rate":
                return list(self._alert(data))
            case "budget":
                return list(self._budget(data))
            case "certificate":
                return list(self._certificate(data))
            case "deadletter":
                return [f"dead letter  {data['position']}: {data['reason']}"]
            case _:
                return []

    def _objective(self, data: Data) -> ObjectiveView:
        key = (data["service"], data["objective"])
        return self.objectives.setdefault(key, ObjectiveView(*key, data["target"]))

    def _indicator(self, data: Data) -> None:
        view, minute, window, budget = self._objective(data), data["minute"], data["window"], data["budget"]
        self.revisions += data["revision"] > 0
        if minute["start"] < view.minute:
            return  # a correction of an older minute
        view.minute, view.minute_ratio, view.minute_n = minute["start"], minute["ratio"], minute["n"]
        view.window_ratio, view.window_n, view.unit = window["ratio"], window["n"], window["unit"]
        view.budget_left = (budget["remaining_min_ratio"], budget["remaining_max_ratio"])
        view.burn_rates = data["burn_rates"]

    def _alert(self, data: Data) -> Iterator[str]:
        """What is held back is told in a few words: it is in the topic, and nobody is called."""
        view, fires = self._objective(data), data["state"] == "firing"
        subject = f"{short(data['service'])} {data['objective']} ({data['rule']})"
        if data["notify"] and fires:
            view.firing[data["rule"]] = data["severity"]
        elif not fires:
            view.firing.pop(data["rule"], None)
        if data["notify"]:
            state = data["severity"].upper() if fires else f"{data['severity']} resolved"
            yield f"{state}  {subject}: {data['explanation']}"
        elif fires:
            yield f"held back  {subject}: {data['held_back']['by']} {data['held_back']['name']}"

    def _budget(self, data: Data) -> Iterator[str]:
        view, entry, forecast = self._objective(data), data["entry"], data["forecast"]
        if forecast is not None:
            view.forecast = _when_gone(forecast)
        if entry is not None and entry["kind"] == "incident" and entry["end"] is not None:
            took = "" if entry["consumed_ratio"] is None else f", {entry['consumed_ratio']:.1%} of the budget"
            yield (
                f"budget  {short(data['service'])} {data['objective']}: incident {entry['start'][11:16]} to "
                f"{entry['end'][11:16]} took {entry['bad']:,.0f} of {entry['total']:,.0f} {view.unit}{took}"
            )

    def _certificate(self, data: Data) -> Iterator[str]:
        key = (data["service"], data["version"])
        view = self.certificates.setdefault(key, CertificateView(*key))
        before = view.state
        view.state = data["state"]
        undecided = [o["minutes_until_decidable"] for o in data["objectives"] if not o["decided"]]
        known = [minutes for minutes in undecided if minutes is not None]
        view.eta_minutes = max(known) if known and view.state == "pending" else None
        view.why = _why(data)
        if view.state != before and view.why:
            eta = f"; decidable in about {span(view.eta_minutes)}" if view.eta_minutes else ""
            yield f"certificate  {short(view.service)} {view.version}: {view.state}, {view.why}{eta}"


def _when_gone(forecast: Data) -> str:
    """Returns in a few words when a budget will be used up."""
    if forecast["exhausted"]:
        return "gone"
    if forecast["median_hours"] is None:
        return f"lasts ({forecast['p_never']:.0%})"
    low, high = (_hours(hours) for hours in forecast["interval_80_hours"])
    return f"in {_hours(forecast['median_hours'])} ({low} to {high})"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "never"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} d"


def _why(data: Data) -> str:
    """Returns in a few words why a certificate is in its state."""
    match data["state"]:
        case "pending":
            # Without a reason the first minute sufficed: the next event says "issued".
            return ", ".join(entry["reason"].replace("_", " ") for entry in data["reasons"])
        case "issued":
            claims = [f"{o['objective']} ≥ {o['target']} on {o['n']:,} requests" for o in data["objectives"]]
            return f"{data['confidence']:.0%} confidence: {', '.join(claims)}"
        case "revoked":
            return f"the evidence turned on {', '.join(data['revoked_by'])}"
        case _:
            return str(data["trigger"] or "").replace("_", " ")


def short(service: str) -> str:
    """Returns a service's name without environment and namespace."""
    return service.rpartition("/")[2]


def span(minutes: int) -> str:
    """Returns a length of time in the unit that fits."""
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= 2 * size:
            return f"{minutes / size:.0f} {unit}"
    return f"{minutes} min"


def percent(ratio: float | None) -> str:
    """Returns a ratio as it is shown; no data is said so."""
    return "no data" if ratio is None else share_text(ratio, 3)


def left(bounds: tuple[float | None, float | None]) -> str:
    """Returns what is left of a budget. The lower bound says nothing until most of the window is covered: here the
    upper one will do."""
    low, high = bounds
    if low is None or high is None:
        return "-"
    return share_text(high) if low == high else f"≤ {share_text(high)}"
