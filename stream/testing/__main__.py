"""Runs seeds: `python -m stream.testing --seeds 1000 --first 0 [--composites] [--mutation NAME]`.

Exits 1 when a seed fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from stream.testing.processes import Mutation
from stream.testing.simulator import WITH_COMPOSITES, Scenario, simulate

_SHOWN = ("kills", "freezes", "deaths", "rebalances", "restores", "checkpoints", "log_records", "jumps", "lost")


def main(arguments: list[str] | None = None) -> int:
    """Runs the seeds that were asked for, prints each failure and a closing line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stream.testing", description="Simulates the pipeline, seed by seed."
    )
    parser.add_argument("--seeds", type=int, default=500, metavar="N", help="how many (default: 500)")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first one (default: 0)")
    names = ", ".join(mutation.value for mutation in Mutation)
    parser.add_argument("--mutation", type=Mutation, metavar="NAME", help=f"break a rule: {names}")
    parser.add_argument("--composites", action="store_true", help="read indicators back for a composite")
    chosen = parser.parse_args(arguments)
    scenario = WITH_COMPOSITES if chosen.composites else Scenario()
    counts: Counter[str] = Counter()
    failed = []
    began_s = time.monotonic()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        outcome = simulate(seed, scenario=scenario, mutation=chosen.mutation)
        counts.update(outcome.counts)
        if outcome.failures:
            failed.append(seed)
            print(f"seed {seed}:", *outcome.failures, sep="\n  ", flush=True)
    figures = ", ".join(f"{name.replace('_', ' ')} {counts[name]}" for name in _SHOWN)
    print(f"{chosen.seeds} seeds in {time.monotonic() - began_s:.0f} s: {figures}, failures {len(failed)}")
    if failed:
        breach = f" --mutation {chosen.mutation}" if chosen.mutation else ""
        breach += " --composites" if chosen.composites else ""
        print(f"replay one with: python -m stream.testing --seeds 1 --first {failed[0]}{breach}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
