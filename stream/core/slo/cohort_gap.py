"""How much worse a part of an objective's events is than all of them, and whether chance could have made it so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from stream.core.cells import Column
from stream.core.slo.sli import sli
from stream.core.statistics.intervals import newcombe


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortGap:
    """The gap between a cohort and everyone over some stretch of time.

    Args:
        ratio: Share of bad events of the cohort less that of everyone, exactly.
        low: Lower 95 % bound of it.
        own_bad_ratio: Share of bad events of the cohort.
    """

    ratio: Fraction
    low: float
    own_bad_ratio: Fraction


def cohort_gap(cohort: Sequence[int], every: Sequence[int], unit: int) -> CohortGap | None:
    """Returns the gap between a cohort's summed cell and that of everyone, the cohort among them; None without data.

    None, too, where the cohort is more than everyone: two counters read at different instants may say so.

    A cohort and all the others are independent, a cohort and everyone are not: the bound is that of the difference from
    the others, by their share in everyone.

    Args:
        cohort: Counters of the cohort, by `Column`.
        every: Those of everyone.
        unit: The weight of one, as of `sli`.
    """
    others = [a - b for a, b in zip(every, cohort, strict=True)]
    if not 0 <= others[Column.WEIGHT_BAD] <= others[Column.WEIGHT]:
        return None
    of_cohort, of_others = sli(cohort, unit), sli(others, unit)
    if of_cohort.ratio is None or of_others.ratio is None or of_cohort.interval is None or of_others.interval is None:
        return None
    weight = every[Column.WEIGHT]
    own_bad_ratio = Fraction(cohort[Column.WEIGHT_BAD], cohort[Column.WEIGHT])
    low, _ = newcombe((of_others.ratio, of_others.interval), (of_cohort.ratio, of_cohort.interval))
    return CohortGap(
        ratio=own_bad_ratio - Fraction(every[Column.WEIGHT_BAD], weight),
        low=low * others[Column.WEIGHT] / weight,
        own_bad_ratio=own_bad_ratio,
    )
