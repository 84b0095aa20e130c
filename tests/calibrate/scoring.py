"""How good the forecasts were: coverage of the intervals, reliability of the probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from stream.core.statistics.forecast import Forecast, forecast, hours_to_exhaustion
from tests.calibrate.processes import PROCESSES, World, world

AT_RISK_RATIO = 0.8
"""Every second turn is a budget of which at least so much is consumed: the moments at which somebody looks."""

SOON_HOURS = 24
PACE_HOURS = 6
PROBABILITY_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forecast and what happened. Times in hours; infinity: never within the horizon."""

    process: str
    horizon_hours: int
    said: Forecast
    linear_hours: float
    happened_hours: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 80 % interval, with infinity for never."""
        low, high = (math.inf if end is None else end for end in self.said.interval_80_hours)
        return low, high

    @property
    def covered(self) -> bool:
        """Whether the interval held the truth. "Never" is in it only when its upper end is never."""
        low, high = self.interval
        return low <= self.happened_hours <= high

    @property
    def soon(self) -> bool:
        """Whether the budget ran out within 24 hours."""
        return self.happened_hours <= SOON_HOURS


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Sums over runs, all in ratios.

    Args:
        early: The truth came before the interval. `late`: after it.
        only_never: Intervals that say nothing but never; they hold more than 80 % of the futures.
        brier: Of the probability to run out within 24 h; beside it, what the base rate and a straight line score.
    """

    runs: int
    covered: float
    early: float
    late: float
    never: float
    never_said: float
    only_never: float
    soon: float
    soon_said: float
    brier: float
    brier_base: float
    brier_linear: float


def score(runs: Sequence[Run]) -> Score:
    """Returns the scores of some runs."""
    soon = np.array([run.soon for run in runs], float)
    said = np.array([run.said.p_exhaust_24h for run in runs])
    linear = np.array([run.linear_hours <= SOON_HOURS for run in runs], float)
    return Score(
        runs=len(runs),
        covered=float(np.mean([run.covered for run in runs])),
        early=float(np.mean([run.happened_hours < run.interval[0] for run in runs])),
        late=float(np.mean([run.happened_hours > run.interval[1] for run in runs])),
        never=float(np.mean([math.isinf(run.happened_hours) for run in runs])),
        never_said=float(np.mean([run.said.p_never for run in runs])),
        only_never=float(np.mean([math.isinf(run.interval[0]) for run in runs])),
        soon=float(soon.mean()),
        soon_said=float(said.mean()),
        brier=float(np.mean((said - soon) ** 2)),
        brier_base=float(soon.mean() * (1 - soon.mean())),
        brier_linear=float(np.mean((linear - soon) ** 2)),
    )


def reliability(runs: Sequence[Run]) -> list[tuple[float, float, int, float, float]]:
    """Returns, for each range of P(exhaust <= 24 h): its ends, how many runs, the mean said, the share that did."""
    said = np.array([run.said.p_exhaust_24h for run in runs])
    soon = np.array([run.soon for run in runs], float)
    rows = []
    for low, high in pairwise(PROBABILITY_EDGES):
        within = (said >= low) & ((said < high) | (high == 1))
        if within.any():
            rows.append((low, high, int(within.sum()), float(said[within].mean()), float(soon[within].mean())))
    return rows


def scored(count: int, seed: int, names: Sequence[str] = tuple(PROCESSES)) -> Iterator[Run]:
    """Yields `count` runs, the processes in turn. A budget that is gone already has nothing to forecast."""
    randoms = {name: np.random.default_rng([seed, index]) for index, name in enumerate(names)}
    for turn in range(count):
        name = names[turn % len(names)]
        least = AT_RISK_RATIO if turn // len(names) % 2 else 0.0
        one = world(name, randoms[name])
        while not least <= _consumed(one) < 1:
            one = world(name, randoms[name])
        said = forecast(one.history, one.period, one.target)
        assert said is not None
        yield Run(
            process=name,
            horizon_hours=one.period.horizon_hours,
            said=said,
            linear_hours=_linear(one),
            happened_hours=_happened(one),
        )


def _happened(one: World) -> float:
    """Returns when the budget ran out, in hours from now; infinity: it did not."""
    now, horizon = one.past_hours, one.period.horizon_hours
    share = float(1 - one.target)
    total = np.concatenate(([0], np.cumsum(one.total, dtype=float)))
    bad = np.concatenate(([0], np.cumsum(one.bad, dtype=float)))
    ends = np.arange(now, now + horizon + 1)
    if one.period.hours_left is None:
        starts = ends - one.period.hours
        known = np.maximum(starts, 0)
        unseen = np.maximum(-starts, 0) * total[now] / now
        over = bad[ends] - bad[known] - share * (total[ends] - total[known] + unseen)
    else:
        start = now - one.period.elapsed_hours
        over = bad[ends] - bad[start] - share * (total[now + horizon] - total[start])
    spent = np.flatnonzero(over >= 0)
    if not spent.size:
        return math.inf
    first = int(spent[0])
    return first - 1 + float(over[first - 1] / (over[first - 1] - over[first])) if first else 0.0


def _consumed(one: World) -> float:
    """Returns the share of the budget that is consumed now, at the mean traffic so far."""
    known = slice(max(one.past_hours - one.period.elapsed_hours, 0), one.past_hours)
    allowed = float(1 - one.target) * one.total[known].mean() * one.period.hours
    return float(one.bad[known].sum() / allowed)


def _linear(one: World) -> float:
    """Returns what a straight line says: the budget that is left at the burn rate of the last six hours."""
    recent = slice(one.past_hours - PACE_HOURS, one.past_hours)
    if not one.total[recent].any():
        return math.inf
    burn_rate = Fraction(int(one.bad[recent].sum()), int(one.total[recent].sum())) / (1 - one.target)
    hours = hours_to_exhaustion(Fraction(1 - _consumed(one)), burn_rate, one.period.hours)
    return math.inf if hours is None else float(hours)
