"""What the fold puts out: frozen values in one union. How they are written is in `rendering`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stream.core.certificate.issuance import Assessment
from stream.core.certificate.lifecycle import CertificateState, Reason, Trigger
from stream.core.exemplars import Exemplars
from stream.core.slo.alerts import AlertState
from stream.core.slo.budget_ledger import Entry
from stream.core.slo.burn_rate import BurnRule
from stream.core.slo.composite import Call, Component
from stream.core.slo.explanation import AlertReading
from stream.core.slo.shared_cause import Cause
from stream.core.slo.sli import Budget, Sli
from stream.core.slo.spec import Objective
from stream.core.statistics.forecast import Forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where in which log an output was decided, and when by the log's clocks."""

    pipeline: str
    generation: str
    partition: int
    offset: int
    now_ns: int
    frontier_ns: int | None
    config_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentShare:
    """A component of a composite in its window.

    Args:
        component: Which one.
        ratio: How good it was, over the minutes in which it counted; None without data.
        consumed_ratio: The part of the composite's budget that it consumed; None without data.
    """

    component: Component
    ratio: float | None
    consumed_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCount:
    """How many calls there were of late along an edge of the call graph, and how many failed; weighted."""

    call: Call
    n: float
    bad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SliEvent:
    """The indicator of one objective for one closed minute and for the window that ends with it.

    `start_minute` is the first minute of the window, and `end_minute` the one at which it is complete: that after the
    closed minute where the window rolls, the end of the period where it follows a calendar. `coverage` is the share
    of the window that lies in closed minutes without a gap. `window_sli` counts slices where the budget does.
    `cohort_gap` is, of a cohort, how much worse the ratio of its window is than that of everyone's. `burn_rates` are
    those of the alerts' windows, by length in minutes; None without data. `exemplars` are None where
    no event of the minute had a trace id, and in corrections. `backfilled_minutes` of the window were read before the
    objective was known, and counted later. `components` and `calls` are those of a composite. `bad_counted` are
    the bad events of the minute where a counter of their own tells more than there were.
    """

    context: Context
    objective: Objective
    minute: int
    revision: int
    start_minute: int
    end_minute: int
    minute_sli: Sli
    window_sli: Sli
    coverage: float
    budget: Budget
    burn_rates: tuple[tuple[int, float | None], ...]
    quantiles: dict[str, float] | None
    catching_up: bool
    gap: bool
    exemplars: Exemplars | None = None
    cohort_gap: float | None = None
    backfilled_minutes: int = 0
    components: tuple[ComponentShare, ...] = ()
    calls: tuple[CallCount, ...] = ()
    bad_counted: float | None = None


class HeldBackBy(StrEnum):
    """What keeps people from being told of an alert."""

    PENDING = "pending"
    """It has not burned for as long as its rule asks."""
    NOT_TOLD_BEFORE = "not-told-before"
    """It ended, and nobody was told that it began, or nobody wants to hear of its end."""
    INHIBITED = "inhibited"
    """Another alert of the objective says the same, and more."""
    MUTED = "muted"
    """A maintenance window."""
    DEPLOY = "deploy"
    """A version appeared a moment ago."""
    RATE_CAP = "rate-cap"
    """Enough was told of this service within the hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Why nobody is told, and the name of what holds it back."""

    by: HeldBackBy
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """An alert changed, or one that was held back is told now. Without a reading its objective is gone.

    Args:
        context: Where it was decided.
        objective: Of which.
        rule: By which rule.
        state: The new state; inactive after firing means resolved.
        minute: The closed minute that it follows from.
        factor: The burn rate that both windows are compared with; None where there is none.
        reading: The figures.
        explanation: Plain sentences.
        held_back: Why nobody is told; None: people are to be told.
        began_minute: Since when it has burned without a break.
        version: The version that most failures are of, of a composite the component; '' where there is none.
        deployed_minute: When that version appeared; None for the first that the service ever had, and for components.
        exemplars: Traces of the minute.
        causes: Of a composite: services that others of it fail with.
    """

    context: Context
    objective: Objective
    rule: BurnRule
    state: AlertState
    minute: int
    factor: float | None
    reading: AlertReading | None
    explanation: str
    held_back: HeldBack | None = None
    began_minute: int | None = None
    version: str = ""
    deployed_minute: int | None = None
    exemplars: Exemplars | None = None
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEvent:
    """A line of the budget ledger, or where the budget stands at a full hour (`entry` is None).

    Args:
        context: Where it was decided.
        objective: Of which.
        minute: The closed minute that it follows from.
        entry: What was entered; an incident is told when it begins and again when it ends.
        entry_consumed: The share of the whole budget that it took, at mean traffic; None without data.
        budget: Where the budget stands.
        coverage: The share of the window that was observed.
        start_minute: First minute of the window.
        end_minute: The minute at which it is complete.
        forecast: When the budget will be used up; None without data, and beside a deploy or an adjustment.
    """

    context: Context
    objective: Objective
    minute: int
    entry: Entry | None
    entry_consumed: float | None
    budget: Budget
    coverage: float
    start_minute: int
    end_minute: int
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """The latest of an objective: its indicator, and its alerts that are not inactive, with since when they burn."""

    sli: SliEvent
    alerts: tuple[tuple[BurnRule, AlertState, int, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateEvent:
    """A certificate changed, or a pending one states where it stands."""

    context: Context
    service: str
    version: str
    began_minute: int
    evidence_minute: int
    policy: str
    state: CertificateState
    before: CertificateState | None
    trigger: Trigger | None
    minute: int
    reasons: tuple[Reason, ...]
    assessments: tuple[Assessment, ...]
    issued_ns: int | None
    expires_ns: int | None
    revoked_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchEvent:
    """The t-digest of a service's request durations in one closed minute; centroids are seconds."""

    context: Context
    service: str
    minute: int
    centroids: list[dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Items of one message that could not be counted, and why."""

    context: Context
    topic: str
    topic_id: str
    partition: int
    offset: int
    reason: str
    items: int
    digest: bytes | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusGone:
    """An objective is no longer configured: nothing stands under its key any more."""

    objective: Objective


Output = SliEvent | AlertEvent | BudgetEvent | StatusEvent | StatusGone | CertificateEvent | SketchEvent | DeadLetter


def is_urgent(output: Output) -> bool:
    """Returns whether an output should reach its readers at once: alert and certificate changes."""
    if isinstance(output, CertificateEvent):
        return output.before is not output.state
    return isinstance(output, AlertEvent)
