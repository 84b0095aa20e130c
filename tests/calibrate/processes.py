"""Where the truth comes from: services whose past the forecast sees and whose future it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.signal import lfilter

from stream.core.columns import Array
from stream.core.statistics.forecast import History, Period

Random = np.random.Generator
MONTH_HOURS = 720
PAST_HOURS = 1440
DAY_HOURS = 24
ALL_HOURS = PAST_HOURS + MONTH_HOURS + DAY_HOURS
MONTH = Period(hours=MONTH_HOURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One service, past and future; hour `past_hours` is now."""

    total: Array
    bad: Array
    past_hours: int
    period: Period
    target: Fraction

    @property
    def history(self) -> History:
        """What is known now."""
        known = slice(0, self.past_hours)
        return History(total=self.total[known], bad=self.bad[known], covered=np.ones(self.past_hours, bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Expected events an hour and error ratios, hour by hour, relative to a mean of about 1.

    A day longer than past and future: `draw` begins at any hour of it, so that now is any hour of the day.
    """

    events: Array
    errors: Array
    past_hours: int = PAST_HOURS
    period: Period = MONTH


def draw(random: Random, shape: Shape, *, volume: float, consumption: float, ratio: float, noise: float) -> World:
    """Returns a world with gamma-Poisson events and Poisson errors, begun at a random hour of the day.

    Args:
        volume: Events an hour.
        consumption: Share of the budget that an average window consumes.
        ratio: Mean error ratio.
        noise: Coefficient of variation of an hour's traffic.
    """
    phase = random.integers(DAY_HOURS)
    hours = slice(phase, phase + shape.past_hours + shape.period.horizon_hours)
    events, errors = shape.events[hours], shape.errors[hours]
    lively = random.gamma(1 / noise**2, noise**2, events.size)
    total = random.poisson(np.maximum(volume * events * lively, 0))
    bad = np.minimum(random.poisson(total * np.minimum(ratio * errors, 1.0)), total)
    share = Fraction(ratio / consumption).limit_denominator(10**7)
    return World(total=total, bad=bad, past_hours=shape.past_hours, period=shape.period, target=1 - share)


def seasonal(hours: int, *, day: float = 0.5, week: float = 0.2) -> Array:
    """Returns traffic with a daily wave and quieter weekends."""
    hour = np.arange(hours)
    wave: Array = (1 + day * np.sin(2 * np.pi * hour / 24)) * np.where(hour // 24 % 7 < 5, 1 + week / 2.5, 1 - week)
    return wave


def autoregressive(random: Random, hours: int, *, correlation_hours: float, deviation: float) -> Array:
    """Returns exp of a stationary AR(1) process, of mean about 1."""
    keep = np.exp(-1 / correlation_hours)
    steps = random.normal(size=hours) * np.sqrt(1 - keep**2)
    steps[0] = random.normal()
    x = lfilter([1.0], [1.0, -keep], steps)
    level: Array = np.exp(deviation * x - deviation**2 / 2)
    return level


def episodes(random: Random, hours: int, *, every_hours: float, last_hours: float, spread: float) -> Array:
    """Returns 0 outside and a log-normal severity inside incidents, of mean about 1 over a long time."""
    level = np.zeros(hours)
    start = random.exponential(every_hours)
    mean = np.exp(spread**2 / 2) * last_hours / every_hours
    while start < hours:
        length = random.exponential(last_hours)
        severity = random.lognormal(0, spread) / mean
        first, last = int(start), min(int(start + length) + 1, hours)
        level[first:last] += severity * length / max(last - first, 1)
        start += length + random.exponential(every_hours)
    return level


def steady(random: Random) -> Shape:
    """A constant error ratio that began some time ago, after clean months."""
    hours = ALL_HOURS
    errors = np.full(hours, 1.0)
    errors[: PAST_HOURS - random.integers(12, MONTH_HOURS)] = 0.02
    return Shape(events=seasonal(hours), errors=errors)


def incidents(random: Random) -> Shape:
    """Incidents of hours over a low floor of errors, weekly traffic."""
    hours = ALL_HOURS
    every, last = random.uniform(60, 200), random.uniform(1, 12)
    level = episodes(random, hours, every_hours=every, last_hours=last, spread=1.0)
    return Shape(events=seasonal(hours), errors=0.2 + 0.8 * level)


def wandering(random: Random) -> Shape:
    """An error ratio that wanders: a day to a week until it forgets."""
    hours = ALL_HOURS
    correlation, deviation = random.uniform(24, 168), random.uniform(0.4, 1.0)
    return Shape(
        events=seasonal(hours),
        errors=autoregressive(random, hours, correlation_hours=correlation, deviation=deviation),
    )


def traffic_shifts(random: Random) -> Shape:
    """Traffic that jumps up to fourfold, also after now; wandering errors."""
    hours = ALL_HOURS
    level = np.ones(hours)
    for _ in range(random.integers(1, 6)):
        level[random.integers(0, hours) :] *= np.exp(random.uniform(-1.4, 1.4))
    return Shape(
        events=seasonal(hours) * level,
        errors=autoregressive(random, hours, correlation_hours=48, deviation=0.6),
    )


def bursts(random: Random) -> Shape:
    """Bursts of three to ten times the traffic in which the error ratio rises too."""
    hours = ALL_HOURS
    burst = np.minimum(episodes(random, hours, every_hours=90, last_hours=3, spread=0.6) / 6, 9)
    errors = 0.6 * autoregressive(random, hours, correlation_hours=24, deviation=0.5) + burst
    return Shape(events=seasonal(hours, day=0.7) + burst, errors=errors)


def bad_deploy(random: Random) -> Shape:
    """A version that fails more from its deploy until somebody rolls it back: six hours to twenty days."""
    hours = ALL_HOURS
    errors = np.full(hours, 0.3)
    start = float(random.uniform(0, 300))
    while start < hours:
        length = float(np.exp(random.uniform(np.log(6), np.log(480))))
        errors[int(start) : int(start + length)] = np.exp(random.uniform(np.log(0.8), np.log(6)))
        start += length + random.exponential(250)
    return Shape(events=seasonal(hours), errors=errors)


def night_jobs(random: Random) -> Shape:
    """A job that fails at night, some nights more than others."""
    hours = ALL_HOURS
    nights = np.repeat(random.gamma(1.2, 1 / 1.2, hours // 24), 24) * np.isin(np.arange(hours) % 24, (1, 2, 3)) * 8
    return Shape(events=seasonal(hours), errors=0.2 + 0.8 * nights)


def trend(random: Random) -> Shape:
    """An error ratio that grows or falls all the time, by up to a factor of five a month."""
    hours = ALL_HOURS
    slope = random.uniform(-1.6, 1.6) / MONTH_HOURS
    drift = np.exp(slope * (np.arange(hours) - PAST_HOURS))
    return Shape(
        events=seasonal(hours) * np.exp(random.uniform(-0.3, 0.6) / MONTH_HOURS * np.arange(hours)),
        errors=drift * autoregressive(random, hours, correlation_hours=24, deviation=0.4),
    )


def young(random: Random) -> Shape:
    """A service of three to twelve days in a window of thirty."""
    past = int(random.integers(72, 300))
    hours = past + MONTH_HOURS + DAY_HOURS
    level = episodes(random, hours, every_hours=50, last_hours=5, spread=0.8)
    return Shape(events=seasonal(hours), errors=0.4 + 0.6 * level, past_hours=past)


def quiet(random: Random) -> Shape:
    """Few events an hour: single errors count."""
    hours = ALL_HOURS
    return Shape(
        events=seasonal(hours, day=0.9), errors=autoregressive(random, hours, correlation_hours=24, deviation=0.5)
    )


def calendar_month(random: Random) -> Shape:
    """A calendar month, anywhere in it, with incidents over wandering errors."""
    left = int(random.integers(24, MONTH_HOURS))
    hours = PAST_HOURS + left + DAY_HOURS
    level = episodes(random, hours, every_hours=100, last_hours=6, spread=0.8)
    errors = 0.5 * level + 0.5 * autoregressive(random, hours, correlation_hours=48, deviation=0.5)
    return Shape(events=seasonal(hours), errors=errors, period=Period(hours=MONTH_HOURS, hours_left=left))


def short_window(random: Random) -> Shape:
    """A rolling window of seven days over incidents of hours."""
    hours = PAST_HOURS + 168 + DAY_HOURS
    level = episodes(random, hours, every_hours=40, last_hours=4, spread=0.8)
    return Shape(events=seasonal(hours), errors=0.3 + 0.7 * level, period=Period(hours=168))


PROCESSES: Mapping[str, Callable[[Random], Shape]] = {
    made.__name__.replace("_", " "): made
    for made in (
        steady,
        incidents,
        wandering,
        traffic_shifts,
        bursts,
        bad_deploy,
        night_jobs,
        trend,
        young,
        quiet,
        calendar_month,
        short_window,
    )
}
"""None of them is the forecast's own model; most break it: shifts, bursts, trends, constants."""


def world(name: str, random: Random) -> World:
    """Returns one world of a process: traffic, error ratio and share of the budget consumed are drawn widely."""
    volume = float(np.exp(random.uniform(np.log(500), np.log(50_000)))) if name != "quiet" else 12.0
    ratio = float(np.exp(random.uniform(np.log(0.001), np.log(0.01)))) if name != "quiet" else 0.02
    consumption = float(np.exp(random.uniform(np.log(0.2), np.log(3.0))))
    if name == "steady":
        consumption *= 2
    return draw(
        random,
        PROCESSES[name](random),
        volume=volume,
        consumption=consumption,
        ratio=ratio,
        noise=random.uniform(0.05, 0.4),
    )
