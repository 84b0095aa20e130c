"""Metric points of a record: judged and admitted as rows are, turned into steps by their streams, counted in cells.

What a step adds belongs to the minute of the point's time, also where the step began in an earlier minute: the point
does not say when within it the events happened.
"""

from __future__ import annotations

import numpy as np

from stream.core.cells import COLUMNS, Column
from stream.core.columns import Array, RejectReason
from stream.core.engine.admission import Admitted, Repetitions, admit, judge
from stream.core.engine.counting import Countable, count
from stream.core.engine.state import State
from stream.core.engine.tally import Predicate, Tally, grouped, without
from stream.core.engine.verdicts import Items, Verdicts
from stream.core.events import Output
from stream.core.log import LogRecord
from stream.core.points import MetricType, PointFlag, Points
from stream.core.slo.selection import compare, having, having_any, within_threshold
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.spec import Bundle, RawRatio, SliSignal
from stream.core.streams import Outcome, Steps, within
from stream.core.units import WEIGHT_ONE

STEP_EVENTS_MAX = 1 << 32
"""More events in one step of one stream are no requests, and sums of them would overflow: the point is refused."""

_SQUARE_ONE = 1 << 8
_NEVER = np.iinfo(np.int64).max
_SIGNALS = frozenset((SliSignal.METRICS,))
_REJECTED = {
    Outcome.SECOND_WRITER: RejectReason.SECOND_WRITER,
    Outcome.TOO_MANY_STREAMS: RejectReason.TOO_MANY_STREAMS,
    Outcome.OUT_OF_RANGE: RejectReason.OUT_OF_RANGE,
}


def apply_points(state: State, record: LogRecord, points: Points, repetitions: Repetitions) -> list[Output]:
    """Counts what the points that are new, neither late nor from the future, and within the caps add.

    Returns a dead letter per source and reason of the points that were refused.
    """
    assert state.bundle is not None
    items = Items.of_points(points)
    verdicts = judge(state, record, items, repetitions)
    admitted = admit(state, items, verdicts)
    if len(admitted):
        chosen = points.take(admitted.index) if len(admitted) < len(points) else points
        steps = state.streams.apply(
            chosen,
            watched_from_ns=_watched_from_ns(state, record)[chosen.source],
            streams_max=state.bundle.settings.streams_max,
        )
        _enter(verdicts, admitted, steps, _too_many(chosen, steps, state.bundle))
        taken = verdicts.open[admitted.index]
        if taken.any():
            _count(state, record, admitted.take(taken), _Taken(chosen, steps, np.flatnonzero(taken)))
    repetitions.counted(items, verdicts.open)
    verdicts.count()
    return [*admitted.outputs, *verdicts.dead_letters(state, record.sources)]


def _watched_from_ns(state: State, record: LogRecord) -> Array:
    """Returns, per source of the record, since when its topic has been read; the end of time while nobody knows."""
    began: dict[str, int] = {}
    for (topic, _), began_ns in state.clocks.began_ns.items():
        began[topic] = min(began_ns, began.get(topic, _NEVER))
    return np.array([began.get(source.topic, _NEVER) for source in record.sources], np.int64)


def _too_many(points: Points, steps: Steps, bundle: Bundle) -> Array:
    """Returns bool[n]: whether a point of a metric that some objective counts adds more than `STEP_EVENTS_MAX`."""
    large = steps.n > STEP_EVENTS_MAX
    if large.any():
        objectives = bundle.objectives
        metrics = {name for o in objectives for name in (o.metric, o.good_metric, o.bad_metric)}
        large &= np.array([name in metrics for name in points.names], bool)[points.name]
    return np.asarray(large)


def _enter(verdicts: Verdicts, admitted: Admitted, steps: Steps, too_many: Array) -> None:
    def of(chosen: Array) -> Array:
        mask = np.zeros(len(verdicts.open), bool)
        mask[admitted.index[chosen]] = True
        return mask

    outcome = np.where(too_many, np.int8(Outcome.OUT_OF_RANGE), steps.outcome)
    if outcome.any():
        verdicts.duplicate(of(outcome == Outcome.DUPLICATE))
        verdicts.late(of(outcome == Outcome.LATE))
        for refused, reason in _REJECTED.items():
            verdicts.reject(of(outcome == refused), reason)


class _Taken:
    """The points that were taken, and what they add."""

    def __init__(self, points: Points, steps: Steps, index: Array) -> None:
        self.points, self.steps, self.index = points, steps, index

    @property
    def attributes(self) -> Array:
        """Indices into the attribute sets."""
        return self.points.attributes[self.index]

    def tally(self, predicate: Predicate, wanted: Array, part: Array, minute: Array) -> Tally:
        """Returns what is added to the cells of objectives with this predicate, per part and minute.

        Args:
            predicate: What counts.
            wanted: bool[parts].
            part: int64[taken], of each point: its pair, or a part of one.
            minute: int64[taken].
        """
        assert predicate.metric is not None
        points = self.points
        selected = wanted[part] & self._named(
            predicate.metric, predicate.good_metric or predicate.bad_metric or predicate.metric
        )
        if predicate.kinds and selected.any():
            selected &= np.isin(points.kind[self.index], predicate.kinds)
        if predicate.attributes and selected.any():
            selected &= having(points.attribute_sets, predicate.attributes)[self.attributes]
        if predicate.raw is not None or (predicate.threshold is not None and predicate.threshold.attribute is None):
            chosen, values = self._of_values(np.flatnonzero(selected), predicate)
        else:
            chosen, values = self._of_steps(np.flatnonzero(selected & (self.steps.n[self.index] > 0)), predicate)
        if predicate.without and len(chosen):
            excluded = having_any(points.attribute_sets, predicate.without)
            values = without(values, excluded[points.attributes[self.index[chosen]]])
        return grouped(part[chosen], minute[chosen], values)

    def _named(self, *names: str) -> Array:
        """Returns bool[taken]: whether a point is of a metric with one of the names."""
        return np.array([name in names for name in self.points.names], bool)[self.points.name[self.index]]

    def _of_steps(self, chosen: Array, predicate: Predicate) -> tuple[Array, Array]:
        """Returns the points that count, and what their steps add: so many events, and so many of them bad."""
        points, steps, at = self.points, self.steps, self.index[chosen]
        n = steps.n[at]
        if predicate.duration_lte_ns is not None and len(chosen):
            inside = within(points, steps, predicate.duration_lte_ns)
            known = inside.known[at]
            chosen, at, n = chosen[known], at[known], n[known]
            return chosen, _values(n, n - inside.low[at], inside.high[at] - inside.low[at])
        none = np.zeros_like(n)
        if predicate.good_metric is not None or predicate.bad_metric is not None:
            is_total = self._named(predicate.metric or "")[chosen]
            sign = -1 if predicate.good_metric is not None else 1
            return chosen, _values(np.where(is_total, n, 0), np.where(is_total, n * (sign < 0), sign * n), none)
        return chosen, _values(n, np.where(self._failed(at, predicate), n, 0), none)

    def _of_values(self, chosen: Array, predicate: Predicate) -> tuple[Array, Array]:
        """Returns the points that count, each once, and what their own values say of them.

        A point without a value says nothing, and neither does a ratio that is none: it counts as excluded.
        """
        points = self.points
        number = np.isin(points.type, (MetricType.GAUGE, MetricType.SUM))[self.index[chosen]]
        chosen = chosen[number & ((points.flags[self.index[chosen]] & PointFlag.NO_RECORDED_VALUE) == 0)]
        at = self.index[chosen]
        is_integer = (points.flags[at] & PointFlag.INTEGER) != 0
        integer = points.value_int[at]
        value = np.where(is_integer, integer, points.value[at])
        one = np.ones(len(at), np.int64)
        if predicate.raw is None:
            assert predicate.threshold is not None
            good = np.where(is_integer, compare(integer, predicate.threshold), compare(value, predicate.threshold))
            return chosen, without(_values(one, (~good).astype(np.int64), np.zeros_like(one)), np.isnan(value))
        is_ratio = (value >= 0) & (value <= 1)
        ratio = np.where(is_ratio, value, 0)
        values = np.zeros((COLUMNS, len(at)), np.int64)
        values[Column.N], values[Column.WEIGHT] = one, SLICE_ONE
        bad = 1 - ratio if predicate.raw is RawRatio.SUCCESS else ratio
        values[Column.WEIGHT_BAD] = np.ceil(bad * SLICE_ONE).astype(np.int64)
        values[Column.N_BAD] = values[Column.WEIGHT_BAD] > 0
        return chosen, without(values, ~is_ratio)

    def _failed(self, at: Array, predicate: Predicate) -> Array:
        points = self.points
        if predicate.good_attributes and len(at):
            return np.asarray(~having(points.attribute_sets, predicate.good_attributes)[points.attributes[at]])
        if predicate.bad_attributes and len(at):
            return np.asarray(having(points.attribute_sets, predicate.bad_attributes)[points.attributes[at]])
        if predicate.threshold is not None and len(at):
            return np.asarray(~within_threshold(points.attribute_sets, predicate.threshold)[points.attributes[at]])
        return np.asarray((points.flags[at] & PointFlag.FAILED) != 0)


def _values(n: Array, bad: Array, unsure: Array) -> Array:
    values = np.zeros((COLUMNS, len(n)), np.int64)
    values[Column.N], values[Column.N_BAD], values[Column.N_UNSURE] = n, bad, unsure
    values[Column.WEIGHT], values[Column.WEIGHT_BAD] = n * WEIGHT_ONE, bad * WEIGHT_ONE
    values[Column.WEIGHT_SQUARE], values[Column.WEIGHT_SQUARE_BAD] = n * _SQUARE_ONE, bad * _SQUARE_ONE
    return values


def _count(state: State, record: LogRecord, admitted: Admitted, taken: _Taken) -> None:
    def tally(predicate: Predicate, wanted: Array, part: Array | None) -> Tally:
        return taken.tally(predicate, wanted, admitted.pair if part is None else part, admitted.minute)

    counted = Countable(
        signals=_SIGNALS, attributes=taken.attributes, attribute_sets=taken.points.attribute_sets, tally=tally
    )
    count(state, record, admitted, counted)
