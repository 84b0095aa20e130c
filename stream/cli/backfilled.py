"""What came of `qma backfill`, in words and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stream.cli.wording import moment_of, percent
from stream.config.exit_codes import FAIL, INCONCLUSIVE
from stream.core.cells import Column
from stream.core.engine.backfill import Backfill
from stream.core.slo.spec import Objective
from stream.core.units import DAY_MINUTES, HOUR_MINUTES


class Stage(StrEnum):
    """How far a backfill came."""

    NOTHING = "nothing"
    """There is nothing to count, or it cannot be counted."""
    DRY_RUN = "dry-run"
    """It was counted, and not written."""
    BOOKED = "booked"
    """It is part of the objective's history."""
    WRITTEN = "written"
    """It is in the log, and no checkpoint behind it was seen."""
    IGNORED = "ignored"
    """It did not end where the history begins: another one was booked before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one objective.

    Args:
        objective: The objective.
        stage: How far it came.
        sections: What was counted, the newest first.
        messages: Messages that were read for it, and for those with it.
        between: Events of a metric between its points before the log and those in it: they count nowhere.
        why_not: Why nothing was counted; '' where something was.
    """

    objective: Objective
    stage: Stage
    sections: tuple[Backfill, ...] = ()
    messages: int = 0
    between: int = 0
    why_not: str = ""

    @property
    def span(self) -> tuple[int, int]:
        """The minutes [first, end) that were counted."""
        return self.sections[-1].first_minute, self.sections[0].end_minute

    def total(self, column: Column) -> int:
        """Returns a counter, summed over everything: of events, also where the budget is made of slices."""
        return sum(section.events.sums()[column] for section in self.sections)

    def slices(self, column: Column) -> int:
        """Returns a counter of slices, summed over everything."""
        return sum(section.slices.sums()[column] for section in self.sections)


def exit_code(outcomes: Sequence[Outcome], named: bool) -> int:
    """Returns 1 where an objective that was named, or every one, got nothing; 2 where that is not known; else 0."""
    nothing = [outcome.stage in (Stage.NOTHING, Stage.IGNORED) for outcome in outcomes]
    if all(nothing) or (named and any(nothing)):
        return FAIL
    return INCONCLUSIVE if any(outcome.stage is Stage.WRITTEN for outcome in outcomes) else 0


def as_object(outcome: Outcome) -> dict[str, Any]:
    """Returns an outcome as plain values."""
    known: dict[str, Any] = {
        "service": outcome.objective.service,
        "objective": outcome.objective.name,
        "objective_digest": outcome.objective.digest,
        "stage": outcome.stage,
        "why_not": outcome.why_not or None,
    }
    if not outcome.sections:
        return known
    start, end = outcome.span
    return known | {
        "start": moment_of(start),
        "end": moment_of(end),
        "messages_read": outcome.messages,
        "uncounted_between": outcome.between,
        "n": outcome.total(Column.N),
        "n_bad": outcome.total(Column.N_BAD),
        "slices": outcome.slices(Column.N) if outcome.objective.slices is not None else None,
        "slices_bad": outcome.slices(Column.N_BAD) if outcome.objective.slices is not None else None,
    }


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yields an outcome after the other for people, and a last sentence."""
    for outcome in outcomes:
        yield f"{outcome.objective.service} {outcome.objective.name}: {_told(outcome)}"
    yield _sentence(outcomes)


def _told(outcome: Outcome) -> str:
    if not outcome.sections:
        return f"nothing was counted: {outcome.why_not}"
    start, end = outcome.span
    n, n_bad = outcome.total(Column.N), outcome.total(Column.N_BAD)
    share = f" ({percent(n_bad / n)})" if n else ""
    slices = ""
    if outcome.objective.slices is not None:
        slices = f"; {outcome.slices(Column.N):,} slices, {outcome.slices(Column.N_BAD):,} bad"
    between = ""
    if outcome.between:
        between = f"; {outcome.between:,} between the last points before the log and the first in it count nowhere"
    return (
        f"{_length(end - start)} from {moment_of(start)} to {moment_of(end)}: {n:,} counted, {n_bad:,} bad{share}"
        f"{slices}; {outcome.messages:,} messages were read{between}"
    )


def _length(minutes: int) -> str:
    """Returns a length of time in its two largest units."""
    days, rest = divmod(minutes, DAY_MINUTES)
    hours, rest = divmod(rest, HOUR_MINUTES)
    parts = [f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (rest, "min")) if number]
    return " ".join(parts[:2])


def _sentence(outcomes: Sequence[Outcome]) -> str:
    of = {stage: [outcome for outcome in outcomes if outcome.stage is stage] for stage in Stage}
    if of[Stage.IGNORED]:
        return "not booked: another backfill was there first, or a last older message moved the beginning; run it again"
    if of[Stage.WRITTEN]:
        return "written to the log: it counts as soon as a worker has read that far; `qma status` says so"
    if of[Stage.DRY_RUN]:
        return "nothing was written: a dry run"
    if of[Stage.BOOKED]:
        return "booked: it is in every window from the next minute on, marked as backfilled; what was decided stays"
    return "nothing was written"
