"""Units of time and weight. Every time is an `int` in nanoseconds, every weight an `int` in 2^-16."""

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS

MINUTE = 1
HOUR_MINUTES = 60
DAY_MINUTES = 1440

WEIGHT_ONE = 1 << 16
"""The fixed-point weight of one event: weights are integers, so their sums do not depend on order."""

WEIGHT_MAX = 65_536 * WEIGHT_ONE
"""Weights are capped here and flagged: one span must not speak for more than 65,536."""

TIME_NS_MAX = (1 << 63) - 1
"""Times beyond int64 (a producer may send 2^64-1) are clipped to this, which is always in the future."""


def minute_of(time_ns: int) -> int:
    """Returns the minute that holds `time_ns`: floor(time / 60 s), half-open."""
    return time_ns // MINUTE_NS
