"""Lists of different lengths in one array."""

from __future__ import annotations

import numpy as np

from stream.core.columns import Array


def positions(first: Array, length: Array) -> Array:
    """Returns int64[Σ length]: the positions of all elements of the lists that begin at `first`, list by list."""
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(first - (ends - length), length))


def owners(length: Array) -> Array:
    """Returns int64[Σ length]: the number of the list that each element belongs to."""
    return np.asarray(np.repeat(np.arange(len(length)), length))


def sums(values: Array, length: Array) -> Array:
    """Returns int64[n]: the sum of each of the lists that stand one after the other in `values`."""
    ends = np.cumsum(length)
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    return np.asarray(total[ends] - total[ends - length])
