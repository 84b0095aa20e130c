"""Futures of a service: the present regime for as long as it lasts, then what followed moments like this one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from stream.core.columns import Array
from stream.core.statistics.forecast.draws import PATHS, uniforms
from stream.core.statistics.forecast.regime import Regime, regime
from stream.core.statistics.forecast.traffic import DAY_HOURS, Traffic, traffic

DRIFT = 0.2
"""Standard deviation of the logarithm by which the errors to come differ from what a long history says."""

DRIFT_OF_A_DAY = 1.7
"""The same of a history of one day; its square falls with the length of the history."""

FORGET_DAYS = 28
"""A history at least this long may prove its older part outdated."""

OUTDATED_FACTOR = 1.5
"""It is when the newest quarter would have forecast the weeks of its newer half so much better (mean square)."""

NOTHING = 1e-9

_LEVEL, _DURATION, _SWELL, _START = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Futures:
    """Cumulative events from now on, float64[PATHS, edges], at `edges` int64[edges], in hours from now."""

    edges: Array
    total: Array
    bad: Array


def futures(total: Array, bad: Array, covered: Array, horizon_hours: int, counts_per_event: float) -> Futures:
    """Returns `PATHS` futures; the same for the same arguments.

    How long the regime lasts: a level that never ended in history has an even chance to last as long again as it
    has lasted; one that ended n times is, with probability n/(n + 1), just an hour of history like others. After
    the regime, or at once, history repeats itself from a day that followed hours like the last ones.

    Shapes:
        total, bad int64[history hours] and covered bool[history hours], oldest first, 0 where not covered.

    Source:
        Gott 1993, "Implications of the Copernican principle" (duration); Lorenz 1969, "Atmospheric predictability
        as revealed by naturally occurring analogues", and Lall and Sharma 1996, "A nearest neighbor bootstrap".
    """
    events, bad_events = total / counts_per_event, bad / counts_per_event
    length = _block_hours(total.size)
    edges = _edges(horizon_hours)
    flow = traffic(events, covered, horizon_hours + DAY_HOURS)
    now = regime(events, bad_events, length)
    coming, repeated = _repeated(events, bad_events, flow, now.alike, length, edges)
    errors = _errors(now, coming, repeated, edges, total.size)
    swell = counts_per_event * np.exp(flow.spread * scipy.special.ndtri(uniforms(4)[:, _SWELL, None]))
    return Futures(edges=edges, total=swell * coming, bad=swell * errors)


def _edges(horizon_hours: int) -> Array:
    """Returns each hour of the first day, each sixth of the first week, each day, and the horizon."""
    grid = np.concatenate((np.arange(24), np.arange(24, 168, 6), np.arange(168, max(horizon_hours, 168), 24)))
    return np.append(grid[grid < horizon_hours], horizon_hours)


def _block_hours(hours: int) -> int:
    if hours >= 4 * DAY_HOURS:
        return DAY_HOURS
    return 6 if hours >= DAY_HOURS else max(1, hours // 4)


def _errors(now: Regime, coming: Array, repeated: Array, edges: Array, history_hours: int) -> Array:
    points = uniforms(4)
    normal = scipy.special.ndtri(points[:, _LEVEL, None])
    share = 1 / (1 + now.ends) if now.alike.any() else 1.0
    lasts = np.where(points[:, _DURATION] < share, now.age_hours * (share / points[:, _DURATION] - 1), 0)
    end = np.minimum(np.searchsorted(edges, lasts), edges.size - 1)
    paths = np.arange(PATHS)
    level = np.minimum(now.ratio * np.exp(now.spread * normal), 1.0)
    during = level * np.minimum(coming, coming[paths, end][:, None])
    after = np.maximum(repeated - repeated[paths, end][:, None], 0)
    drift = math.sqrt(DRIFT**2 + DRIFT_OF_A_DAY**2 * DAY_HOURS / history_hours)
    result: Array = np.minimum(during + after * np.exp(drift * normal), coming)
    return result


def _repeated(total: Array, bad: Array, flow: Traffic, alike: Array, length: int, edges: Array) -> tuple[Array, Array]:
    """Returns the events and the bad ones up to each edge if history repeats itself from some day of it on.

    After the last block comes the first. A block is repeated relative to the traffic that was expected of it, so
    that it keeps its bursts and their errors but takes on the traffic expected of the hours that it lands on.
    Blocks are counted backwards from now: from four days of history on they begin at the present hour of the day.
    """
    count = total.size // length
    expected = flow.past[-count * length :].reshape(count, length).sum(axis=1)
    sums = np.zeros((2, count, length + 1))
    for row, hourly in enumerate((total, bad)):
        np.cumsum(hourly[-count * length :].reshape(count, length), axis=1, out=sums[row, :, 1:])
    seen = sums[0, :, -1] > 0
    if count * length >= FORGET_DAYS * DAY_HOURS:
        seen[: -_memory(*sums[:, :, -1])] = False
    seen[-1] |= not seen.any()  # a service that has gone silent stays silent
    blocks = sums[:, seen] / np.maximum(expected[seen, None], NOTHING)
    steps = -(-int(edges[-1]) // length)
    volumes = flow.coming[: steps * length].reshape(steps, length).sum(axis=1)
    drawn = (_starts(alike[seen])[:, None] + np.arange(steps)) % np.count_nonzero(seen)
    step = np.minimum(edges // length, steps - 1)
    hour, into = edges - step * length, drawn[:, step]
    events, errors = (_joined(kind, drawn, volumes)[:, step] + kind[into, hour] * volumes[step] for kind in blocks)
    return events, errors


def _memory(total: Array, bad: Array) -> int:
    """Returns how many of the newest days of history to go by: all, or a quarter where errors rise or fall."""
    days = total.size
    totals, bads = (np.concatenate(([0.0], np.cumsum(daily))) for daily in (total, bad))
    origins = np.arange(days // 2, days - 6)
    week_total, week_bad = totals[origins + 7] - totals[origins], bads[origins + 7] - bads[origins]

    def misses(memory: int) -> float:
        before_total, before_bad = totals[origins] - totals[origins - memory], bads[origins] - bads[origins - memory]
        logs = np.log((week_bad + 0.5) * (before_total + 0.5) / ((before_bad + 0.5) * (week_total + 0.5)))
        return float(np.mean(logs**2))

    return days // 4 if misses(days // 2) > OUTDATED_FACTOR * misses(days // 4) else days


def _starts(alike: Array) -> Array:
    """Returns the block that each future begins with: one that came after hours like the last ones, or any."""
    blocks = np.flatnonzero(alike) if alike.any() else np.arange(alike.size)
    first: Array = blocks[(uniforms(4)[:, _START] * blocks.size).astype(np.int64)]
    return first


def _joined(blocks: Array, drawn: Array, volumes: Array) -> Array:
    """Returns the sum of all blocks before each step."""
    before = np.zeros((PATHS, volumes.size + 1))
    np.cumsum(blocks[drawn, -1] * volumes, axis=1, out=before[:, 1:])
    return before
