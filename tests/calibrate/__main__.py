"""`make calibrate`: how often the truth lies in the forecast's interval. Exits 1 outside 75 to 85 %."""

from __future__ import annotations

import argparse
import math

from tests.calibrate.processes import PROCESSES
from tests.calibrate.scoring import Run, Score, reliability, score, scored

COVERAGE_MIN, COVERAGE_MAX = 0.75, 0.85
RUNS_MIN = 500

HEADINGS = (
    "runs",
    "in 80 %",
    "before",
    "after",
    "never",
    "said",
    "only never",
    "≤ 24 h",
    "said",
    "Brier",
    "base",
    "line",
)


def main() -> int:
    """Runs the calibration and prints its tables."""
    parser = argparse.ArgumentParser(prog="make calibrate")
    parser.add_argument("--runs", type=int, default=1200, help=f"forecasts (1200); a verdict needs {RUNS_MIN}")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    runs = list(scored(arguments.runs, arguments.seed))
    overall = score(runs)
    print(coverage_table(runs))
    print()
    print(reliability_table(runs))
    bounded = [run for run in runs if not math.isinf(run.interval[0])]
    print(f"\nof the {len(bounded)} intervals that name a time {score(bounded).covered:.1%} hold the truth")
    if overall.runs < RUNS_MIN:
        print(f"{overall.runs} runs are too few for a verdict")
        return 0
    good = COVERAGE_MIN <= overall.covered <= COVERAGE_MAX
    print(f"coverage {overall.covered:.1%}: {'within' if good else 'OUTSIDE'} 75 to 85 %")
    return 0 if good else 1


def coverage_table(runs: list[Run]) -> str:
    """Returns a row per process and one of all: the interval, "never", and the 24 hours."""
    lines = [" " * 16 + "".join(f"{heading:>11}" for heading in HEADINGS)]
    for name in PROCESSES:
        of_name = [run for run in runs if run.process == name]
        if of_name:
            lines.append(_row(name, score(of_name)))
    lines.append(_row("all", score(runs)))
    return "\n".join(lines)


def _row(name: str, of: Score) -> str:
    ratios = (of.covered, of.early, of.late, of.never, of.never_said, of.only_never, of.soon, of.soon_said)
    briers = (of.brier, of.brier_base, of.brier_linear)
    cells = [f"{of.runs}", *(f"{ratio:.1%}" for ratio in ratios), *(f"{brier:.4f}" for brier in briers)]
    return f"{name:<16}" + "".join(f"{cell:>11}" for cell in cells)


def reliability_table(runs: list[Run]) -> str:
    """Returns a row per range of P(exhaust <= 24 h): how often it was said, and how often it came true."""
    lines = ["P(≤ 24 h)          runs       said   happened"]
    for low, high, count, said, happened in reliability(runs):
        lines.append(f"{low:>4.0%} to {high:<4.0%}{count:>11}{said:>11.1%}{happened:>11.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
