"""What a composite must publish, from all that was said so far, in fractions: nothing is summed twice or forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

from stream.core.events import SliEvent
from stream.core.slo.composite import Component, Missing
from stream.core.slo.spec import Objective
from tests.core.engine.indicator_writer import CHECKOUT, ORDERS, PAYMENTS, T0, JourneyWriter, Said, component, journey

SERVICES = (CHECKOUT, ORDERS, PAYMENTS)
READ_BEYOND = 0.2
"""Record i is read up to minute i and so much more: minute i - 2 has closed in the first stage, i - 3 at the latest."""


@dataclass(frozen=True)
class Story:
    """What is said in each record; record i is read up to minute i."""

    records: tuple[tuple[Said, ...], ...]

    def log(self, *objectives: Objective) -> list[tuple[int, bytes]]:
        """Returns the log records."""
        writer = JourneyWriter(journey(*objectives))
        for number, said in enumerate(self.records):
            writer.record(said, read_until=number + READ_BEYOND)
        return writer.log


@st.composite
def stories(draw: st.DrawFn, *, minutes: int = 30) -> Story:
    """Draws a story in which most is said in time, and the rest late, twice, corrected, out of order or never."""
    records: list[list[Said]] = [[] for _ in range(minutes + 4)]
    for service in SERVICES:
        pattern = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
        for minute in range(minutes):
            total = pattern[minute % len(pattern)]
            records[minute + 2].append(Said(minute, service, total, min(total, minute % 3)))
    anything = st.tuples(
        st.integers(0, minutes - 1), st.sampled_from(SERVICES), st.integers(0, 4), st.integers(0, 4), st.booleans()
    )
    for minute, service, at, bad, gap in draw(st.lists(anything, max_size=8)):
        how = draw(st.sampled_from(("late", "never", "corrected", "twice", "early")))
        due = minute + 2
        index = next((i for i, one in enumerate(records[due]) if (one.minute, one.service) == (minute, service)), None)
        if index is None:
            continue
        one = records[due][index]
        later = min(due + 1 + draw(st.integers(0, minutes)), minutes + 3)
        if how in ("late", "never"):
            del records[due][index]
        if how == "late":
            records[later].append(Said(minute, service, one.total, one.bad, gap=gap))
        if how == "corrected":
            revision = draw(st.integers(0, 3))
            records[later].append(Said(minute, service, at + bad, bad, revision=revision, gap=gap))
        if how == "twice":
            records[later].append(one)
        if how == "early":
            records[max(0, due - 1 - at)].append(Said(minute, service, 9, 9, revision=5))
    return Story(tuple(tuple(draw(st.permutations(said))) for said in records))


class Expected:
    """The figures of one composite after each record. Minutes count from T0."""

    def __init__(self, story: Story, objective: Objective) -> None:
        assert objective.composite is not None
        self.story, self.objective, self.composite = story, objective, objective.composite
        self._heard: list[dict[tuple[str, int], Said]] = []
        held: dict[tuple[str, int], Said] = {}
        for said in story.records:
            held = dict(held)
            for one in said:
                known = held.get((one.service, one.minute))
                if known is None or known.revision < one.revision:
                    held[one.service, one.minute] = one
            self._heard.append(held)

    def closes_at(self, minute: int) -> int:
        """Returns the record at which a minute closes: all is said and the first stage has closed it, or one later."""
        services = {service for service, _ in self.composite.inputs}
        first = minute + 2
        return first if all((s, minute) in self._heard[first] for s in services) else first + 1

    def closing_records(self, minutes: int) -> list[int]:
        """Returns the record at which each minute closes, in order: none overtakes another."""
        records, last = [], 0
        for minute in range(minutes):
            last = max(last, self.closes_at(minute))
            records.append(last)
        return records

    def bad_ratio(self, one: Component, minute: int, record: int) -> tuple[Fraction | None, bool]:
        """Returns how bad a component was, None where it has no part, and whether that is known."""
        heard = self._heard[record]
        if self.composite.seen_minutes is not None:
            first = minute + 1 - self.composite.seen_minutes
            said = [heard.get((one.service, at)) for at in range(first, minute + 1)]
            if any(s is not None and s.total for s in said):
                return Fraction(0), True
            return (Fraction(1), True) if all(s is not None and not s.gap for s in said) else (None, False)
        last = heard.get((one.service, minute))
        if last is None or (last.gap and not last.total):
            return None, False
        if last.total:
            return Fraction(last.bad, last.total), not last.gap
        return (Fraction(1) if self.composite.missing is Missing.BAD else None), True

    def minute(self, minute: int, record: int) -> tuple[Fraction | None, bool]:
        """Returns how bad a minute was, None without data, and whether it was heard of whole."""
        found = [(one, *self.bad_ratio(one, minute, record)) for one in self.composite.components]
        parts = [(one.weight_exact, bad) for one, bad, _ in found if bad is not None]
        whole = all(known for _, _, known in found)
        weight = sum(w for w, _ in parts)
        return (sum((w * b for w, b in parts), Fraction(0)) / weight if weight else None), whole

    def component(self, one: Component, first: int, last: int, record: int) -> tuple[Fraction, Fraction]:
        """Returns a component's share of the minutes [first, last), and how much of it was bad."""
        share_sum, bad_sum = Fraction(0), Fraction(0)
        for minute in range(max(first, 0), last):
            found = [(c, self.bad_ratio(c, minute, record)[0]) for c in self.composite.components]
            weight = sum((c.weight_exact for c, bad in found if bad is not None), Fraction(0))
            for c, bad in found:
                if c == one and bad is not None:
                    share_sum, bad_sum = share_sum + c.weight_exact / weight, bad_sum + c.weight_exact / weight * bad
        return share_sum, bad_sum

    def window(self, minute: int, length: int, record: int) -> tuple[int, Fraction, int]:
        """Returns the minutes with data, how many of them were bad, and how many were heard of whole."""
        told = [self.minute(at, record) for at in range(max(0, minute + 1 - length), minute + 1)]
        bad = [ratio for ratio, _ in told if ratio is not None]
        return len(bad), sum(bad, Fraction(0)), sum(whole for _, whole in told)


def check(event: SliEvent, expected: Expected) -> None:
    """Asserts that every figure of an event is the expected one."""
    minute, record, objective = event.minute - T0, event.context.offset, expected.objective
    ratio, whole = expected.minute(minute, record)
    assert_close(event.minute_sli.ratio, None if ratio is None else 1 - ratio)
    assert event.gap is not whole
    n, bad, observed = expected.window(minute, objective.window_minutes, record)
    assert event.window_sli.n == n
    assert_close(event.window_sli.ratio, 1 - bad / n if n else None)
    assert event.coverage == float(Fraction(observed, objective.window_minutes))
    assert_close(event.budget.consumed_ratio, bad / n / objective.bad_ratio_max if n else None)
    for length, rate in event.burn_rates:
        n, bad, _ = expected.window(minute, length, record)
        assert_close(rate, bad / n / objective.bad_ratio_max if n else None)
    for share in event.components:
        first = minute + 1 - objective.window_minutes
        weight, bad = expected.component(share.component, first, minute + 1, record)
        assert_close(share.ratio, 1 - bad / weight if weight else None)


def assert_close(found: float | None, wanted: Fraction | None) -> None:
    """Asserts that a figure for readers is the exact one; each minute is rounded to 2^-30 against the service."""
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert abs(found - float(wanted)) <= 1e-6 * max(1.0, float(wanted)), (found, wanted)


def components(weights: Sequence[str] = ("1", "2", "0.5")) -> Iterable[Component]:
    """Returns a component of each service."""
    return [component(service, weight) for service, weight in zip(SERVICES, weights, strict=True)]
