"""What an objective must publish at every closed minute, from every event and every minute, in fractions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from hypothesis import strategies as st

from stream.core.engine import Engine
from stream.core.events import Output, SliEvent
from stream.core.rendering import render
from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import BurnRule, Severity
from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment
from stream.core.slo.sli import Budget
from stream.core.slo.spec import EmptySlice, Objective
from stream.core.units import MINUTE_NS, WEIGHT_ONE, minute_of
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle

T0 = minute_of(T0_NS)
RULES = tuple(
    BurnRule(name=f"{long}", severity=Severity.PAGE, long_minutes=long, short_minutes=short, fixed_factor=Fraction(3))
    for long, short in ((60, 5), (30, 7))
)
ALERTING = Alerting(rules=RULES)


@dataclass(frozen=True)
class Burst:
    """Events of one minute that are read in the record of another; minutes count from `T0`."""

    read: int
    minute: int
    good: int
    bad: int

    def events(self) -> list[Event]:
        """Returns them as rows."""
        at_ns = T0_NS + self.minute * MINUTE_NS + 1
        return [
            Event(at_ns, bad=bad, count=n, weight=n * WEIGHT_ONE)
            for n, bad in ((self.good, False), (self.bad, True))
            if n
        ]


@dataclass(frozen=True)
class Declared:
    """A budget adjustment that is in force in the records [applied, removed)."""

    start: int
    end: int
    applied: int
    removed: int

    def adjustment(self, objective: Objective, number: int) -> Adjustment:
        """Returns it as it travels."""
        name = f"adjustment-{number}"
        return Adjustment(
            name=name, objectives=(objective.name,), start_minute=T0 + self.start, end_minute=T0 + self.end
        )


@dataclass(frozen=True)
class Story:
    """A log: record i is read up to the end of minute i, so that minute i - 1 closes with it.

    Before the record of a minute in `losses` messages expired unread: that minute and the next were not read whole.
    """

    minutes: int
    bursts: tuple[Burst, ...]
    losses: frozenset[int] = frozenset()
    declared: tuple[Declared, ...] = ()

    @property
    def gaps(self) -> set[int]:
        """Minutes that were not read whole."""
        return {minute for loss in self.losses for minute in (loss, loss + 1)}

    def excluded(self, record: int, slice_minutes: int = 1) -> set[int]:
        """Returns the minutes that adjustments leave out at a record: whole slices."""
        return {
            minute
            for one in self.declared
            if one.applied <= record < one.removed
            for minute in range(
                one.start // slice_minutes * slice_minutes, ceil(Fraction(one.end, slice_minutes)) * slice_minutes
            )
        }

    def log(self, objective: Objective, calendar: Calendar | None) -> list[tuple[int, bytes]]:
        """Returns the records."""
        writer = LogWriter(bundle(objective))
        changes = {0, *(at for one in self.declared for at in (one.applied, one.removed))}
        for record in range(self.minutes):
            if record in changes:
                adjustments = [
                    one.adjustment(objective, i)
                    for i, one in enumerate(self.declared)
                    if one.applied <= record < one.removed
                ]
                calendars = () if calendar is None else (calendar,)
                writer.bundle = replace(writer.bundle, calendars=calendars, adjustments=tuple(adjustments))
                writer.config_version = record
            events = [event for burst in self.bursts if burst.read == record for event in burst.events()]
            writer.record(
                events,
                until_ns=T0_NS + (record + 1) * MINUTE_NS,
                configure=record in changes,
                lost=3 if record in self.losses else 0,
            )
        return writer.log


@st.composite
def stories(
    draw: st.DrawFn, *, minutes: tuple[int, int] = (20, 110), adjusted: bool = False, late_most: int = 50
) -> Story:
    """Draws a story with traffic that stops and comes back, late rows, gaps and, if wanted, budget adjustments."""
    length = draw(st.integers(*minutes))
    numbers = st.integers(0, 4)
    pattern = draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=23))
    bursts = [Burst(i, i, *pattern[i % len(pattern)]) for i in range(length)]
    within = st.integers(0, length - 1)
    for read, behind in draw(st.lists(st.tuples(within, st.integers(2, late_most)), max_size=6)):
        if read >= behind:
            bursts.append(Burst(read, read - behind, draw(numbers), draw(numbers)))
    losses = frozenset(draw(st.lists(st.integers(2, length), max_size=2)))
    declared = draw(st.lists(_declared(length), max_size=3)) if adjusted else []
    return Story(length, tuple(bursts), losses, tuple(declared))


@st.composite
def _declared(draw: st.DrawFn, length: int) -> Declared:
    start, applied = draw(st.integers(-5, length)), draw(st.integers(1, length))
    end = start + draw(st.integers(1, 40))
    return Declared(start, end, applied, applied + draw(st.integers(1, length)))


class Expected:
    """The figures of one objective. Minutes count from `T0`, records from 0."""

    def __init__(self, story: Story, objective: Objective, calendar: Calendar | None = None) -> None:
        self.story, self.objective, self.calendar = story, objective, calendar
        self._slices: dict[int, tuple[Fraction, Fraction] | None] = {}

    def events(self, first: int, last: int, record: int, left_out: Iterable[int] = ()) -> tuple[Fraction, Fraction]:
        """Returns the total and bad events of the minutes [first, last) that were read by a record."""
        counted = set(range(first, last)) - set(left_out)
        read = [b for b in self.story.bursts if b.read <= record and b.minute in counted]
        return Fraction(sum(b.good + b.bad for b in read)), Fraction(sum(b.bad for b in read))

    def slice(self, end: int) -> tuple[Fraction, Fraction] | None:
        """Returns (1, how bad) of the slice that ends before a minute, as it was when it closed."""
        if end not in self._slices:
            self._slices[end] = self._judge(end)
        return self._slices[end]

    def _judge(self, end: int) -> tuple[Fraction, Fraction] | None:
        slices = self.objective.slices
        assert slices is not None
        first = end - slices.minutes
        if (T0 + end) % slices.minutes or first < 0 or self.story.gaps & set(range(first, end)):
            return None
        total, bad = self.events(first, end, record=end)
        if total < max(1, slices.events_min):
            worth = {EmptySlice.GOOD: Fraction(0), EmptySlice.BAD: Fraction(1), EmptySlice.IGNORE: None}[slices.empty]
            return None if worth is None else (Fraction(1), worth)
        if slices.target:
            return Fraction(1), Fraction((total - bad) / total < Fraction(slices.target))
        return Fraction(1), bad / total

    def counted(self, first: int, last: int, record: int) -> tuple[Fraction, Fraction]:
        """Returns what counts against the budget in the minutes [first, last): total and bad."""
        left_out = self.story.excluded(record, self.objective.slice_minutes)
        if self.objective.slices is None:
            return self.events(first, last, record, left_out)
        ends = [minute + 1 for minute in range(max(first, 0), last) if minute not in left_out]
        judged = [found for end in ends if (found := self.slice(end)) is not None]
        return sum((total for total, _ in judged), Fraction(0)), sum((bad for _, bad in judged), Fraction(0))

    def window(self, minute: int) -> tuple[int, int]:
        """Returns the window of a closed minute: its first minute, and that at which it is complete."""
        if self.calendar is None:
            return minute + 1 - self.objective.window_minutes, minute + 1
        boundaries = [boundary - T0 for boundary in self.calendar.boundaries]
        begun = [boundary for boundary in boundaries if boundary <= minute]
        coming = [boundary for boundary in boundaries if boundary > minute]
        return (begun[-1], coming[0]) if begun and coming else (minute + 1, minute + 2)

    def coverage(self, minute: int, record: int) -> Fraction:
        """Returns the share of the window that was observed, without the minutes that are left out."""
        first, complete = self.window(minute)
        whole = set(range(first, complete)) - self.story.excluded(record, self.objective.slice_minutes)
        seen = {m for m in whole if 0 <= m <= minute} - self.story.gaps
        return Fraction(len(seen), len(whole)) if whole else Fraction(0)

    def budget(self, minute: int, record: int) -> Budget:
        """Returns the budget: what is left if all that was not seen is bad, and if it is good, at mean traffic."""
        first, _ = self.window(minute)
        total, bad = self.counted(first, minute + 1, record)
        coverage, allowed = self.coverage(minute, record), 1 - Fraction(self.objective.target)
        if not total:
            return Budget(consumed_ratio=None, remaining_min_ratio=None, remaining_max_ratio=None)
        consumed = float(bad / (total * allowed))
        if not coverage:
            return Budget(consumed_ratio=consumed, remaining_min_ratio=None, remaining_max_ratio=None)
        whole = total / coverage
        least, most = ((1 - (bad + unseen) / (whole * allowed)) for unseen in (whole - total, Fraction(0)))
        return Budget(consumed_ratio=consumed, remaining_min_ratio=float(least), remaining_max_ratio=float(most))

    def burn_rate(self, minute: int, length: int, record: int) -> Fraction | None:
        """Returns the burn rate of the window of a length that ends with a minute."""
        total, bad = self.counted(minute + 1 - length, minute + 1, record)
        return bad / total / (1 - Fraction(self.objective.target)) if total else None


def fold(
    log: Sequence[tuple[int, bytes]], restored_after: int | None = None
) -> tuple[list[Output], list[bytes | None]]:
    """Returns the outputs of a log, and all but one part of them as bytes. The engine is restored after one record."""
    engine, topic = Engine(0), dict[bytes, bytes | None]()
    outputs: list[Output] = []
    for offset, (time_ns, value) in enumerate(log):
        outputs += engine.apply(offset, time_ns, value)
        if offset == restored_after:
            saved = engine.checkpoint()
            topic |= dict([*saved.chunks, saved.manifest])
            engine = Engine.restore(0, {key: body for key, body in topic.items() if body is not None})
    return outputs, [render(output).value for output in outputs]


def published(outputs: Iterable[Output]) -> list[SliEvent]:
    """Returns the indicators, corrections included."""
    return [output for output in outputs if isinstance(output, SliEvent)]


def check(event: SliEvent, expected: Expected) -> None:
    """Asserts that every figure of an event is the expected one."""
    minute, record = event.minute - T0, event.context.offset
    first, complete = expected.window(minute)
    assert [event.start_minute - T0, event.end_minute - T0] == [first, complete]
    total, bad = expected.events(minute, minute + 1, record)
    assert (Fraction(event.minute_sli.total), Fraction(event.minute_sli.good)) == (total, total - bad)
    total, bad = expected.counted(first, minute + 1, record)
    assert event.window_sli.total == total
    assert_close(event.window_sli.ratio, None if not total else (total - bad) / total)
    assert event.coverage == float(expected.coverage(minute, record))
    budget = expected.budget(minute, record)
    assert_close(event.budget.consumed_ratio, budget.consumed_ratio)
    assert_close(event.budget.remaining_min_ratio, budget.remaining_min_ratio)
    assert_close(event.budget.remaining_max_ratio, budget.remaining_max_ratio)
    fitting = [rule for rule in event.objective.alerting.rules if rule.long_minutes <= event.objective.window_minutes]
    lengths = {length for rule in fitting for length in (rule.long_minutes, rule.short_minutes)}
    assert {length for length, _ in event.burn_rates} == lengths
    for length, rate in event.burn_rates:
        assert_close(rate, expected.burn_rate(minute, length, record))


def assert_close(found: float | None, wanted: float | Fraction | None) -> None:
    """Asserts that a figure for readers is the exact one, rounded; a ratio slice is rounded to 2^-30 against us."""
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert abs(found - float(wanted)) <= 1e-6 * max(1.0, abs(float(wanted))), (found, wanted)


def check_story(
    story: Story, objective: Objective, calendar: Calendar | None, restored_after: int, every: int = 1
) -> None:
    """Asserts the figures of all corrections and of every so many minutes, and that a restore changes no byte."""
    log = story.log(objective, calendar)
    outputs, rendered = fold(log)
    expected = Expected(story, objective, calendar)
    events = published(outputs)
    closed = [event.minute - T0 for event in events if event.revision == 0]
    assert closed == list(range(story.minutes - 1))
    late = {(b.read, b.minute) for b in story.bursts if b.minute < b.read - 1 and b.good + b.bad}
    assert {(e.context.offset, e.minute - T0) for e in events if e.revision} == late
    for event in events:
        if event.revision or event.minute % every == 0:
            check(event, expected)
    assert fold(log, restored_after)[1] == rendered
