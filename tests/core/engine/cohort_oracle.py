"""What cohorts that are found must come to, by plain counting in dictionaries: a story, and what is expected of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from stream.core.columns import Kind
from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import cohort_gap_rule
from stream.core.slo.cohorts import cohorts_of
from stream.core.slo.spec import ANY_VALUE, Objective
from stream.core.units import MINUTE_NS, SECOND_NS
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective

KEY = "k8s.pod.name"
T0 = T0_NS // MINUTE_NS
WINDOW_MINUTES = 60
NAMEABLE = ("a", "b", "c", "d", 7, True, "a@b/c")
NOT_NAMEABLE = ("x" * 256, "__other__", "*", "!*", "\x1b[31m", " pad", "two\nlines")
NONE = (None, "")


def objectives(gap_max: Fraction = Fraction(1, 10), **rest: Any) -> tuple[Objective, Objective]:
    """Returns an objective of everyone and the one that finds cohorts by `KEY`, with a ticket."""
    whole = objective(
        **{"target": "0.5", "window_minutes": WINDOW_MINUTES, "kinds": (Kind.SERVER,), **rest},
        alerting=Alerting(rules=(cohort_gap_rule(gap_max),)),
    )
    (finder,) = cohorts_of(whole, ((KEY, (ANY_VALUE,)),))
    assert finder.alerting.rules == ()
    return replace(whole, alerting=Alerting(rules=())), replace(finder, alerting=whole.alerting)


@dataclass(frozen=True)
class Seen:
    """One event of a story, `ago` minutes before the end of what its record has read."""

    value: str | int | bool | None
    ago: int = 0
    bad: bool = False
    selected: bool = True
    version: str = "v1"

    def event(self, until: int) -> Event:
        """Returns it as the log has it."""
        return Event(
            (until - 1 - self.ago) * MINUTE_NS + SECOND_NS,
            bad=self.bad,
            kind=Kind.SERVER if self.selected else Kind.CLIENT,
            version=self.version,
            attributes=() if self.value is None else ((KEY, self.value),),
        )


@dataclass(frozen=True)
class Step:
    """One record: what it brings, and how many minutes further it has been read."""

    seen: tuple[Seen, ...]
    minutes: int = 1


steps = st.lists(
    st.builds(
        Step,
        seen=st.lists(
            st.builds(
                Seen,
                value=st.sampled_from((*NAMEABLE, *NAMEABLE, *NOT_NAMEABLE, *NONE)),
                ago=st.sampled_from((0, 0, 0, 0, 1, 5, 40)),
                bad=st.booleans(),
                selected=st.sampled_from((True, True, True, False)),
                version=st.sampled_from(("v1", "v2")),
            ),
            max_size=6,
        ).map(tuple),
        minutes=st.sampled_from((0, 1, 1, 2, 62)),
    ),
    min_size=1,
    max_size=10,
)


def written(story: Sequence[Step], cohorts_max: int) -> list[tuple[int, bytes]]:
    """Returns the log of a story. Its first record says that all has been read up to `T0`, and brings nothing."""
    writer = LogWriter(bundle(*objectives(), cohorts_max=cohorts_max))
    writer.record(until_ns=T0_NS)
    until = T0
    for step in story:
        until += step.minutes
        writer.record([one.event(until) for one in step.seen], until_ns=until * MINUTE_NS)
    return writer.log


@dataclass
class Expected:
    """Counts a story. `published` is (n, bad) of the minute and n of the window, by name and minute."""

    cohorts_max: int
    published: dict[tuple[str, int], tuple[int, int, int]] = field(default_factory=dict)
    overflowed: int = 0
    newest: dict[str, int] = field(default_factory=dict)  # of the cohorts that there are
    start: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    counts: dict[str, Counter[tuple[int, bool]]] = field(default_factory=lambda: {"": Counter(), "*": Counter()})
    until: int = T0
    closed: int = T0
    newest_of_all: int = 0

    def add(self, step: Step) -> None:
        """Takes in the next record."""
        until = self.until + step.minutes
        events = [(_text(one.value), until - 1 - one.ago, one) for one in step.seen]
        self.newest_of_all = max([self.newest_of_all, *(minute for _, minute, _ in events)])
        selected = [(text, minute, one.bad) for text, minute, one in events if one.selected]
        self._find(selected)
        for text, minute, bad in selected:
            cohort = text if text in self.newest else ""
            self.overflowed += text != cohort
            self.counts[cohort][minute, bad] += 1
            self.counts["*"][minute, bad] += 1
        self.until = until
        while self.closed < until - 1:  # allowed lateness: a minute
            self._close(self.closed, until)
            self.closed += 1

    def _find(self, events: Sequence[tuple[str, int, bool]]) -> None:
        newest: dict[str, int] = {}
        for text, minute, _ in events:
            newest[text] = max(minute, newest.get(text, minute))
        for text in self.newest:
            self.newest[text] = max(self.newest[text], newest.get(text, 0))
        idle = sorted((minute, text) for text, minute in self.newest.items() if minute < self.until - 60)
        for text in sorted(newest):
            if text in self.newest or newest[text] < self.closed or not _is_nameable(text):
                continue
            if len(self.newest) == self.cohorts_max:
                if not idle:
                    continue
                _, retired = idle.pop(0)
                del self.newest[retired], self.start[retired], self.counts[retired]
                self.silent.discard(retired)
            self.newest[text] = newest[text]
            self.start[text] = max(self.newest_of_all, self.until) + 1
            self.counts[text] = Counter()

    def _close(self, minute: int, until: int) -> None:
        catching_up = until - (minute + 2) > 2
        for cohort, counts in self.counts.items():
            if cohort in self.newest:
                if minute < self.start[cohort]:
                    continue
                is_idle = self.newest[cohort] < minute - 60
                if is_idle and (cohort in self.silent or not catching_up):
                    self.silent.add(cohort)
                    continue
                self.silent.discard(cohort)
            name = {"*": "availability", "": "availability@__other__"}.get(
                cohort, f"availability@{quote(cohort, safe='')}"
            )
            window = sum(n for (at, _), n in counts.items() if minute - WINDOW_MINUTES < at <= minute)
            good, bad = counts[minute, False], counts[minute, True]
            self.published[name, minute] = good + bad, bad, window


def _text(value: str | int | bool | None) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _is_nameable(text: str) -> bool:
    return text in {_text(value) for value in NAMEABLE}
