"""The traffic that a forecast expects: a seasonal profile times a level that follows slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array

DAY_HOURS = 24
WEEK_HOURS = 168
LEVEL_DAYS = 5
"""The level of a day is the median of so many around it, now of the newest three: a burst does not move it."""

SPREAD_MIN, SPREAD_MAX, SPREAD_UNKNOWN = 0.02, 1.0, 0.3
QUIETEST_HOUR_RATIO = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Expected events per hour.

    Args:
        past: Of each hour of history, float64[history hours]; 0 where not covered.
        coming: Of the hours to come, float64[future hours].
        spread: Standard deviation of the logarithm of the level to come.
    """

    past: Array
    coming: Array
    spread: float


def traffic(total: Array, covered: Array, hours: int) -> Traffic:
    """Returns the traffic of the past and of the next `hours`.

    The profile is by hour of the week from two weeks of history on, by hour of the day from two days on, flat
    before. Hours count backwards from now, so no calendar is needed.

    Shapes:
        total float64[history hours], 0 where not covered; covered bool[history hours].
    """
    season = next((s for s in (WEEK_HOURS, DAY_HOURS) if total.size >= 2 * s), 1)
    usable = total.size // season * season
    seen = covered[-usable:].reshape(-1, season).sum(axis=0)
    mean = total.sum() / covered.sum()
    profile = np.where(seen > 0, total[-usable:].reshape(-1, season).sum(axis=0) / np.maximum(seen, 1), mean)
    profile = np.maximum(profile, QUIETEST_HOUR_RATIO * mean)
    past = np.tile(profile, -(-total.size // season))[-total.size :] * covered
    level, spread = _levels(total, past)
    coming = np.tile(profile, -(-hours // season))[:hours] * level[-1]
    return Traffic(past=past * level, coming=coming, spread=spread)


def _levels(total: Array, expected: Array) -> tuple[Array, float]:
    """Returns the level of each hour of history and the spread of the level to come."""
    days = total.size // DAY_HOURS
    if days < 2:
        return np.ones(total.size), SPREAD_UNKNOWN
    counts, wanted = (hourly[-days * DAY_HOURS :].reshape(days, DAY_HOURS).sum(axis=1) for hourly in (total, expected))
    seen = (counts > 0) & (wanted > 0)
    daily = np.where(seen, counts / np.where(seen, wanted, 1), 1.0)
    half = LEVEL_DAYS // 2
    around = np.clip(np.arange(days)[:, None] + np.arange(-half, half + 1), 0, days - 1)
    level = np.sort(daily[around], axis=1)[:, half]
    newest = np.sort(daily[-half - 1 :])
    level[-half:] = newest[newest.size // 2]
    hourly = np.concatenate((np.full(total.size - days * DAY_HOURS, level[0]), np.repeat(level, DAY_HOURS)))
    return hourly, min(max(float(np.log(level).std()), SPREAD_MIN), SPREAD_MAX)
