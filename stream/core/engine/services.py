"""What a partition remembers of one service beside its cells: alerts, certificates, sketches, versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream.core.certificate.issuance import Certificate
from stream.core.engine.spans import Spans, merged, minutes_within
from stream.core.engine.tally import Predicate
from stream.core.exemplars import OpenExemplars
from stream.core.sketch import Sketches
from stream.core.slo.alerts import Alert
from stream.core.slo.budget_ledger import BudgetLedger, Entry
from stream.core.slo.cohorts import found_cohort
from stream.core.slo.declared import Adjustment
from stream.core.slo.spec import OTHER_COHORT, Objective
from stream.core.units import minute_of


@dataclass(slots=True)
class ObjectiveState:
    """The state of one objective.

    Args:
        since: Only rows decoded at or above this configuration version count.
        start_minute: First minute that was counted whole; None until the frontier is known.
        has_data: Something was counted once, also where the cells have forgotten it.
        alerts: Where each rule stands that ever left the inactive state, by the rule's name.
        revisions: Revision of a closed minute that late rows have corrected.
        revised: Closed minutes whose correction is not yet published.
        exemplars: Of the minutes that are open.
        ledger: What used its budget up.
        settled: What minutes that can no longer change add to the calendar period `settled_period`, by `Column`.
        settled_until: The first minute that is not settled.
        adjustments: The budget adjustments for it; they travel with the configuration.
        excluded: Minutes [start, end) that they leave out, merged.
        entered: Which of them are in the ledger, or were when they were removed: name, first minute, end.
        backfilled: Minutes [first, end) before `start_minute` that were counted later (`engine.backfill`).
        unentered: Ledger entries of backfills that wait for the next minute to close.
        gaps: Of a composite: closed minutes of which not every component was heard of whole.
        newest_minute: Of a cohort that was found: newest minute of its events.
        is_silent: Of one: it had none for so long that nothing is published of it.
    """

    since: int
    start_minute: int | None = None
    has_data: bool = False
    alerts: dict[str, Alert] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)
    revised: set[int] = field(default_factory=set)
    exemplars: OpenExemplars = field(default_factory=OpenExemplars)
    ledger: BudgetLedger = field(default_factory=BudgetLedger)
    settled: list[int] = field(default_factory=list)
    settled_period: int | None = None
    settled_until: int | None = None
    adjustments: tuple[Adjustment, ...] = ()
    excluded: Spans = ()
    entered: set[tuple[str, int, int]] = field(default_factory=set)
    backfilled: tuple[int, int] | None = None
    unentered: list[Entry] = field(default_factory=list)
    gaps: Spans = ()
    newest_minute: int | None = None
    is_silent: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether rows that were not counted came behind a backfill: it no longer reaches to `start_minute`."""
        return self.backfilled is not None and self.backfilled[1] != self.start_minute

    @property
    def begins_at(self) -> int | None:
        """The first minute of the history that counts against the budget; None until the frontier is known."""
        return self.start_minute if self.backfilled is None or self.is_broken else self.backfilled[0]

    def covered_minutes(self, end_minute: int, length_minutes: int) -> tuple[int, int]:
        """Returns the minutes [first, last) of a window that lie in this objective's history."""
        if self.begins_at is None:
            return end_minute, end_minute
        return min(end_minute, max(self.begins_at, end_minute - length_minutes)), end_minute

    def backfilled_minutes(self, first: int, last: int) -> int:
        """Returns how many of the minutes [first, last) are history only by a backfill."""
        if self.backfilled is None or self.is_broken:
            return 0
        return max(0, min(last, self.backfilled[1]) - max(first, self.backfilled[0]))

    def excluded_minutes(self, first: int, last: int) -> int:
        """Returns how many of the minutes [first, last) budget adjustments leave out."""
        return minutes_within(self.excluded, first, last)

    def exclude(self, adjustments: Iterable[Adjustment], slice_minutes: int) -> None:
        """Takes in the budget adjustments for it. A slice of which some minute is left out is left out."""
        self.adjustments = tuple(adjustments)
        spans = [(a.start_minute, a.end_minute) for a in self.adjustments]
        self.excluded = merged(whole_slices(*span, slice_minutes) for span in spans)

    def dump(self) -> dict[str, Any]:
        """Returns the state as plain values; `load` gives back an equal one."""
        return {
            "since": self.since,
            "start_minute": self.start_minute,
            "has_data": self.has_data,
            "alerts": {name: alert.dump() for name, alert in sorted(self.alerts.items())},
            "revisions": sorted(self.revisions.items()),
            "revised": sorted(self.revised),
            "exemplars": self.exemplars.dump(),
            "ledger": self.ledger.dump(),
            "settled": [self.settled_period, self.settled_until, self.settled],
            "entered": sorted(self.entered),
            **self._dump_backfill(),
            **({"gaps": self.gaps} if self.gaps else {}),
            **({"cohort": [self.newest_minute, self.is_silent]} if self.newest_minute is not None else {}),
        }

    def _dump_backfill(self) -> dict[str, Any]:
        if self.backfilled is None:
            return {}
        return {"backfilled": self.backfilled, "unentered": [entry.dump() for entry in self.unentered]}

    @classmethod
    def load(cls, body: dict[str, Any]) -> ObjectiveState:
        """Returns the state that `dump` wrote, or a version that knew neither exemplars nor budget ledgers."""
        settled_period, settled_until, settled = body.get("settled", (None, None, []))
        backfilled = body.get("backfilled")
        newest_minute, is_silent = body.get("cohort", (None, False))
        return cls(
            since=body["since"],
            start_minute=body["start_minute"],
            has_data=body.get("has_data", False),
            alerts={name: Alert.load(alert) for name, alert in body["alerts"].items()},
            revisions=dict(body["revisions"]),
            revised=set(body["revised"]),
            exemplars=OpenExemplars.load(body.get("exemplars", [])),
            ledger=BudgetLedger.load(body["ledger"]) if "ledger" in body else BudgetLedger(),
            settled=settled,
            settled_period=settled_period,
            settled_until=settled_until,
            entered={(name, start, end) for name, start, end in body.get("entered", ())},
            backfilled=None if backfilled is None else (backfilled[0], backfilled[1]),
            unentered=[Entry.load(entry) for entry in body.get("unentered", ())],
            gaps=tuple((start, end) for start, end in body.get("gaps", ())),
            newest_minute=newest_minute,
            is_silent=is_silent,
        )


@dataclass(slots=True)
class Service:
    """The state of one service.

    Args:
        key: Its key.
        objectives: The configured ones, and the cohorts that were found, ordered by name.
        states: By digest of the objective.
        certificates: By policy and version.
        versions: All that were counted.
        cohorts: The values that have a cohort, by digest of the objective that found them.
        sketches: Of the open minutes.
        newest_minute: Newest minute of its items.
        first_seen: Closed minute at which each version was there for the first time.
        told: Minutes of the notifications within the last hour.
    """

    key: str
    objectives: list[Objective] = field(default_factory=list)
    states: dict[str, ObjectiveState] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    cohorts: dict[str, set[str]] = field(default_factory=dict)
    sketches: Sketches = field(default_factory=Sketches)
    newest_minute: int | None = None
    first_seen: dict[str, int] = field(default_factory=dict)
    told: list[int] = field(default_factory=list)
    _targets: list[tuple[Objective, str, Predicate]] = field(default_factory=list)

    def new_state(self, since: int, read_until_ns: int | None) -> ObjectiveState:
        """Returns the state of an objective that rows of a configuration, or of a later one, count for.

        History begins after everything that was counted without it; on a fresh log, with the log.

        Args:
            since: Version of the configuration.
            read_until_ns: Time up to which everything was read; None while nobody knows.
        """
        newest = [self.newest_minute] if self.newest_minute is not None else []
        if read_until_ns is not None:
            newest.append(minute_of(read_until_ns))
        return ObjectiveState(since=since, start_minute=max(newest) + 1 if newest else None)

    def with_cohorts(self, configured: Sequence[Objective]) -> list[Objective]:
        """Returns the configured objectives and the cohorts that they have found, ordered by name."""
        finders = [(o, self.cohorts.get(o.digest, ())) for o in configured if o.finds]
        found = [found_cohort(rest, value) for rest, values in finders for value in values]
        return sorted([*configured, *found], key=lambda o: o.name)

    def targets(self) -> list[tuple[Objective, str, Predicate]]:
        """Returns each objective with its digest and its predicate."""
        if [objective for objective, _, _ in self._targets] != self.objectives:
            self._targets = [(o, o.digest, Predicate.of(o)) for o in self.objectives]
        return self._targets

    def exclude(self, adjustments: Iterable[Adjustment]) -> None:
        """Tells each objective which minutes are left out of its budget; a cohort that was found, those of the rest."""
        for objective in self.objectives:
            name = f"{objective.cohort_of}@{OTHER_COHORT}" if objective.is_found else objective.name
            own = [a for a in adjustments if name in a.objectives]
            self.states[objective.digest].exclude(own, objective.slice_minutes)

    def see_versions(self, minute: int) -> list[str]:
        """Notes the versions that are new at a closed minute. Returns those that came after the first."""
        new = sorted(self.versions - self.first_seen.keys())
        is_first = not self.first_seen
        self.first_seen.update((version, minute) for version in new)
        return [] if is_first else new

    def deploys(self) -> list[tuple[str, int]]:
        """Returns the versions that came after the first, each with the minute at which it appeared, in this order."""
        first = min(self.first_seen.values(), default=0)
        return sorted(((v, at) for v, at in self.first_seen.items() if at > first), key=lambda seen: (seen[1], seen[0]))

    def told_within(self, minute: int, length_minutes: int) -> list[int]:
        """Returns the minutes of the notifications within the time that ends with a minute."""
        return [told for told in self.told if told > minute - length_minutes]

    @property
    def policy(self) -> str:
        """Digest of what a certificate of this service claims: the set of its objectives."""
        return hashlib.sha256("".join(sorted(o.digest for o in self.claimed)).encode()).hexdigest()[:32]

    @property
    def claimed(self) -> list[Objective]:
        """The objectives that a certificate claims."""
        return [objective for objective in self.objectives if objective.certified]

    def dump_head(self) -> dict[str, Any]:
        """Returns everything but sketches and the configured objectives, which travel with the configuration."""
        return {
            "states": {digest: state.dump() for digest, state in sorted(self.states.items())},
            "certificates": {key: c.dump() for key, c in sorted(self.certificates.items())},
            "versions": sorted(self.versions),
            **({"cohorts": {d: sorted(values) for d, values in sorted(self.cohorts.items())}} if self.cohorts else {}),
            "newest_minute": self.newest_minute,
            "first_seen": dict(sorted(self.first_seen.items())),
            "told": self.told,
        }

    def load_head(self, body: dict[str, Any]) -> None:
        """Takes back what `dump_head` wrote."""
        self.states = {digest: ObjectiveState.load(entry) for digest, entry in body["states"].items()}
        self.certificates = {key: Certificate.load(entry) for key, entry in body["certificates"].items()}
        self.versions = set(body["versions"])
        self.cohorts = {digest: set(values) for digest, values in body.get("cohorts", {}).items()}
        self.newest_minute = body["newest_minute"]
        self.first_seen = body.get("first_seen", {})
        self.told = body.get("told", [])


def whole_slices(start: int, end: int, minutes: int) -> tuple[int, int]:
    """Returns the minutes [first, last) of the slices that minutes [start, end) lie in."""
    return start // minutes * minutes, -(-end // minutes) * minutes
