"""What a partition remembers of one service beside its cells: alerts, certificates, sketches, versions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from stream.core.certificate.issuance import Certificate
from stream.core.engine.tally import Predicate
from stream.core.exemplars import OpenExemplars
from stream.core.sketch import Sketches
from stream.core.slo.burn_rate import AlertState
from stream.core.slo.spec import Objective


@dataclass(slots=True)
class ObjectiveState:
    """The state of one objective.

    Args:
        since: Only rows decoded at or above this configuration version count.
        start_minute: First minute that was counted whole; None until the frontier is known.
        alerts: State of each burn-rate rule that ever fired, by the rule's name.
        revisions: Revision of a closed minute that late rows have corrected.
        revised: Closed minutes whose correction is not yet published.
        exemplars: Of the minutes that are open.
        row: Where its series is in the cells, once known; no part of a checkpoint.
        version_rows: Where the series of its versions are, likewise.
    """

    since: int
    start_minute: int | None = None
    alerts: dict[str, AlertState] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)
    revised: set[int] = field(default_factory=set)
    exemplars: OpenExemplars = field(default_factory=OpenExemplars)
    row: int | None = None
    version_rows: dict[str, int] = field(default_factory=dict)

    def covered_minutes(self, end_minute: int, length_minutes: int) -> tuple[int, int]:
        """Returns the minutes [first, last) of a window that lie in this objective's history."""
        if self.start_minute is None:
            return end_minute, end_minute
        return min(end_minute, max(self.start_minute, end_minute - length_minutes)), end_minute

    def dump(self) -> dict[str, Any]:
        """Returns the state as plain values; `load` gives back an equal one."""
        return {
            "since": self.since,
            "start_minute": self.start_minute,
            "alerts": dict(sorted(self.alerts.items())),
            "revisions": sorted(self.revisions.items()),
            "revised": sorted(self.revised),
            "exemplars": self.exemplars.dump(),
        }

    @classmethod
    def load(cls, body: dict[str, Any]) -> ObjectiveState:
        """Returns the state that `dump` wrote, or a version that knew no exemplars."""
        return cls(
            since=body["since"],
            start_minute=body["start_minute"],
            alerts={name: AlertState(state) for name, state in body["alerts"].items()},
            revisions=dict(body["revisions"]),
            revised=set(body["revised"]),
            exemplars=OpenExemplars.load(body.get("exemplars", [])),
        )


@dataclass(slots=True)
class Service:
    """The state of one service. `objectives` are the configured ones, ordered by name."""

    key: str
    objectives: list[Objective] = field(default_factory=list)
    states: dict[str, ObjectiveState] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    sketches: Sketches = field(default_factory=Sketches)
    newest_minute: int | None = None
    _targets: list[tuple[Objective, str, Predicate]] = field(default_factory=list)

    def targets(self) -> list[tuple[Objective, str, Predicate]]:
        """Returns each configured objective with its digest and its predicate."""
        if [objective for objective, _, _ in self._targets] != self.objectives:
            self._targets = [(o, o.digest, Predicate.of(o)) for o in self.objectives]
        return self._targets

    @property
    def policy(self) -> str:
        """Digest of what a certificate of this service claims: the set of its objectives."""
        return hashlib.sha256("".join(sorted(o.digest for o in self.objectives)).encode()).hexdigest()[:32]

    def dump_head(self) -> dict[str, Any]:
        """Returns everything but sketches and the configured objectives, which travel with the configuration."""
        return {
            "states": {digest: state.dump() for digest, state in sorted(self.states.items())},
            "certificates": {key: c.dump() for key, c in sorted(self.certificates.items())},
            "versions": sorted(self.versions),
            "newest_minute": self.newest_minute,
        }

    def load_head(self, body: dict[str, Any]) -> None:
        """Takes back what `dump_head` wrote."""
        self.states = {digest: ObjectiveState.load(entry) for digest, entry in body["states"].items()}
        self.certificates = {key: Certificate.load(entry) for key, entry in body["certificates"].items()}
        self.versions = set(body["versions"])
        self.newest_minute = body["newest_minute"]
