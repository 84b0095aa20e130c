"""Fixed draws: the same points at every forecast, so that equal input gives equal bytes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from stream.core.columns import Array

PATHS = 127
"""Futures per forecast. Odd: the median is one of them, and a symmetric draw has its centre in it."""


@lru_cache(maxsize=1)
def uniforms(dimensions: int) -> Array:
    """Returns a Latin hypercube in (0, 1): every column holds each of the `PATHS` midpoints once, in mixed order.

    Shapes:
        float64[PATHS, dimensions].

    Source:
        McKay, Beckman and Conover 1979; the order is that of SplitMix64's outputs, Steele, Lea and Flood 2014.
    """
    ranks = np.argsort(np.argsort(_mixed(PATHS * dimensions).reshape(dimensions, PATHS), axis=1), axis=1)
    points: Array = ((ranks + 0.5) / PATHS).T
    points.flags.writeable = False
    return points


def _mixed(count: int) -> Array:
    bits = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
