"""The regime of errors: how long the error ratio has kept its present level, and whether such a thing ended before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array
from stream.core.statistics.forecast.traffic import DAY_HOURS

FACTOR = 2.0
"""Ratios this far apart are still the same level; so are ratios that the noise of counting explains."""

WANDER = 0.3
"""Standard deviation of the logarithm of a level, before history says better."""

CHUNK_BAD = 8
"""Bad events that a stretch of history should hold before it is compared with now."""

LOOK_BACK_HOURS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """The stretch up to now through which the error ratio kept its level.

    Args:
        ratio: The error ratio of its newer half.
        age_hours: Its length so far.
        spread: Standard deviation of the logarithm of its level to come.
        ends: How often a level like it ended in history.
        alike: bool[blocks], oldest first: whether a block of history came after hours like the last ones.
    """

    ratio: float
    age_hours: int
    spread: float
    ends: int
    alike: Array


def regime(total: Array, bad: Array, block_hours: int) -> Regime:
    """Returns the current regime: it grows backwards while the next older stretch does not differ.

    Args:
        total: Events per hour, oldest first, 0 where there is no data.
        bad: Bad ones of them, in the same unit.
        block_hours: Length of the blocks of `Regime.alike`, which are counted backwards from now.

    Source:
        Bifet and Gavaldà 2007, "Learning from time-changing data with adaptive windowing"; here on a grid of
        lengths.
    """
    totals, bads = (np.concatenate(([0.0], np.cumsum(hourly[::-1]))) for hourly in (total, bad))
    age, deviations = _age(totals, bads)
    # The oldest chunk may hold the change itself: its newer half says what the level is.
    newer = max(min(age, DAY_HOURS), -(-age // 2))
    newer_bad, newer_total = float(bads[newer]), float(totals[newer])
    wander = (WANDER**2 + max(sum(deviations), 0.0)) / (1 + len(deviations))
    return Regime(
        ratio=newer_bad / newer_total if newer_total > 0 else 0.0,
        age_hours=age,
        spread=math.sqrt(wander + 1 / (newer_bad + 0.5)),
        ends=_ends(totals, bads, newer),
        alike=_alike(totals, bads, min(age, LOOK_BACK_HOURS), block_hours),
    )


def differ(total: Array, bad: Array, other_total: Array, other_bad: Array) -> Array:
    """Returns whether error ratios differ by more than `FACTOR` beyond two deviations of counting; element-wise.

    Source:
        Anscombe 1948: the root of a Poisson count + 3/8 has a standard deviation of about one half.
    """
    total, other_total = np.maximum(total, 1e-9), np.maximum(other_total, 1e-9)
    root, other_root = np.sqrt((bad + 0.375) / total), np.sqrt((other_bad + 0.375) / other_total)
    lower = root < other_root
    gap = np.where(lower, other_root - math.sqrt(FACTOR) * root, root - math.sqrt(FACTOR) * other_root)
    variance = np.where(lower, FACTOR / total + 1 / other_total, 1 / total + FACTOR / other_total) / 4
    return gap > 2 * np.sqrt(variance)


def _age(totals: Array, bads: Array) -> tuple[int, list[float]]:
    """Returns the length of the regime and, of each older stretch in it, its squared deviation beyond noise."""
    lengths = np.array(_lengths(totals.size - 1))
    newer, older = lengths[:-1], lengths[1:]
    total, bad, old_total, old_bad = (
        totals[newer],
        bads[newer],
        totals[older] - totals[newer],
        bads[older] - bads[newer],
    )
    differs = differ(total, bad, old_total, old_bad)
    kept = int(np.argmax(differs)) if differs.any() else differs.size
    compared = ((total > 0) & (old_total > 0))[:kept]
    k, old_k = bad[:kept][compared] + 0.5, old_bad[:kept][compared] + 0.5
    gaps = np.log(k * old_total[:kept][compared] / (old_k * total[:kept][compared]))
    return int(lengths[kept]), (gaps**2 - 1 / k - 1 / old_k).tolist()


def _lengths(hours: int) -> list[int]:
    """Returns 1, 2, 3, 4, 6, 8, 12, … and `hours`."""
    powers = [base << shift for shift in range(hours.bit_length()) for base in (2, 3)]
    return sorted({1, hours, *(length for length in powers if length < hours)})


def _ends(totals: Array, bads: Array, newer: int) -> int:
    """Returns how often the level of the last `newer` hours ended in history, at a resolution that can tell."""
    bad = max(float(bads[newer]), 1e-9)
    chunk = max(min(math.ceil(CHUNK_BAD * newer / bad), newer), 1)
    chunk_bads, chunk_totals = bads[::chunk], totals[::chunk]
    same = ~differ(totals[newer], bads[newer], np.diff(chunk_totals), np.diff(chunk_bads))
    return int(np.count_nonzero(same[1:] & ~same[:-1]))


def _alike(totals: Array, bads: Array, hours: int, block_hours: int) -> Array:
    count = (totals.size - 1) // block_hours
    starts = np.arange(1, count + 1) * block_hours
    starts = starts[starts + hours < totals.size]
    before = starts + hours
    alike = np.zeros(count, bool)
    alike[: starts.size] = ~differ(
        totals[hours], bads[hours], totals[before] - totals[starts], bads[before] - bads[starts]
    )
    return alike[::-1]
