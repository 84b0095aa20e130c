"""Burn rates of many objectives at once, for readers and to see where an exact look is worth while."""

from __future__ import annotations

import numpy as np

from stream.core.cells import Column
from stream.core.columns import Array

ROUNDING = 2.0**-50
"""A rate differs from the exact one by less than this share of it: what is further from a factor lies on that side."""


def burn_rates(sums: Array, bad_ratio_max: Array) -> Array:
    """Returns float64[n], the error ratio ÷ (1 − target) of summed cells; NaN without data.

    Rounded four times, twice of integers and twice in a division, and once with `bad_ratio_max`.

    Args:
        sums: int64[COLUMNS, n], as `Cells.window` returns them.
        bad_ratio_max: float64[n] or one for all, 1 − target.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[Column.WEIGHT_BAD] / sums[Column.WEIGHT] / bad_ratio_max)
