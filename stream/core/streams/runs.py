"""Several points of one stream at once: they depend on each other, so they are cut into runs.

Within a run every point simply goes on from the one before it, and all differences can be taken together. Only the
first point of a run has to be looked at by the rules; runs of one stream come one after the other, in rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array
from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.streams.ragged import owners, positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Points in runs, and runs in rounds of at most one per stream.

    Shapes: `order` int64[m]: the points, stream by stream, in the order of the log; `first`, `length` int64[runs]:
    where in `order` a run begins, and its points; `rounds`: the runs of each round.
    """

    order: Array
    first: Array
    length: Array
    rounds: list[Array]


def runs_of(points: Points, index: Array, count: Array, layout: Array) -> Runs:
    """Returns the runs of some points.

    Args:
        points: All points, in the order of the log.
        index: Those that belong to streams.
        count: int64[n]: the count of each, or the floor of its sum.
        layout: int64[n]: equal where buckets can be compared.
    """
    hi, lo = points.stream_hi[index], points.stream_lo[index]
    order = np.lexsort((lo, hi))  # stable
    hi, lo = hi[order], lo[order]
    new = np.ones(len(order), bool)
    new[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    if new.all():  # as nearly every record is: no stream twice
        once = np.arange(len(index))
        return Runs(order=index, first=once, length=np.ones_like(once), rounds=[once] if len(once) else [])
    order = index[order]
    heads = new.copy()
    heads[1:] |= ~_goes_on(points, order[:-1], order[1:], count, layout)
    first = np.flatnonzero(heads)
    length = np.diff(first, append=len(order))
    number = np.arange(len(first))
    number -= np.maximum.accumulate(np.where(new[first], number, 0))  # of the run within its stream
    by_round = np.argsort(number, kind="stable")
    rounds = np.split(by_round, np.cumsum(np.bincount(number))[:-1])
    return Runs(order=order, first=first, length=length, rounds=rounds)


def _goes_on(points: Points, before: Array, after: Array, count: Array, layout: Array) -> Array:
    """Returns bool[k]: whether the point after simply goes on from the one before; where in doubt it does not."""
    ended = (points.flags & PointFlag.NO_RECORDED_VALUE) != 0
    goes_on = (points.temporality[after] == points.temporality[before]) & ~ended[before] & ~ended[after]
    for name in ("stream_hi", "stream_lo"):
        goes_on &= getattr(points, name)[after] == getattr(points, name)[before]
    goes_on &= points.time_ns[after] > points.time_ns[before]
    delta = points.temporality[after] == Temporality.DELTA
    follows = (points.start_ns[after] == 0) | (points.start_ns[after] >= points.time_ns[before])
    return np.asarray(goes_on & np.where(delta, follows, _grows(points, before, after, count, layout)))


def _grows(points: Points, before: Array, after: Array, count: Array, layout: Array) -> Array:
    """Returns bool[k]: whether a cumulative point has the start and the buckets of the one before, nothing fallen."""
    goes_on = points.temporality[after] == Temporality.CUMULATIVE
    goes_on &= (count[after] >= count[before]) & (layout[after] == layout[before])
    is_sum = points.type[after] == MetricType.SUM
    goes_on &= ~is_sum | (points.value[after] >= points.value[before])
    for name in ("zero_count", "negative_count"):
        goes_on &= getattr(points, name)[after] >= getattr(points, name)[before]
    for name in ("start_ns", "scale", "bucket_offset"):
        goes_on &= getattr(points, name)[after] == getattr(points, name)[before]
    length = np.diff(points.bucket_first)
    goes_on &= length[after] == length[before]
    chosen = np.flatnonzero(goes_on)
    fell = bucket_differences(points, before[chosen], after[chosen]) < 0
    if fell.any():
        goes_on[chosen[owners(length[after[chosen]])[fell]]] = False
    return np.asarray(goes_on)


def bucket_differences(points: Points, before: Array, after: Array) -> Array:
    """Returns the differences of the buckets of pairs of points that have equally many, pair by pair."""
    first, length = points.bucket_first[:-1], np.diff(points.bucket_first)
    own = positions(first[after], length[after])
    return np.asarray(points.buckets[own] - points.buckets[positions(first[before], length[before])])
