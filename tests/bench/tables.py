"""How figures are printed: what was aimed at, what was measured, and how many times the other side's rate that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table.

    Args:
        name: What was measured; nothing where the line belongs to the one above.
        measured: The figure, in the unit of the table; None where it could not be measured.
        target: What is aimed at, in the same unit.
        ratio: `measured` over the figure of `against`.
        target_ratio: What is aimed at.
        against: The other side of the ratio, or why there is no figure.
    """

    name: str = ""
    measured: float | None = None
    target: float | None = None
    ratio: float | None = None
    target_ratio: float | None = None
    against: str = ""


def print_table(title: str, unit: str, lines: Sequence[Line], *, most: bool = False) -> None:
    """Prints the lines.

    Args:
        title: What was done, and how.
        unit: Of `measured` and `target`.
        most: Targets are upper bounds.
    """
    bound = "at most" if most else "at least"
    print(f"\n{title}")
    print(f"  {'':34} {unit:>14} {bound:>11} {'ratio':>9} {bound:>9}  against")
    for line in lines:
        print(
            f"  {line.name:34} {_number(line.measured):>14} {_number(line.target):>11} "
            f"{_times(line.ratio):>9} {_times(line.target_ratio):>9}  {line.against}".rstrip()
        )


def _number(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3f}"


def _times(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.2f} ×"
