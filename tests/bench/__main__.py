"""`make bench`: what a span costs. Prints the machine, each stage, and the whole way on a real broker."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from importlib import metadata
from pathlib import Path

from tests.bench import end_to_end, stages
from tests.bench.workload import SERVICES, VERSIONS

BEYOND_DECODING = ("route", "encode record", "decode record and fold", "checkpoint")


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--runs", type=int, default=5, help="median of so many (5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=128, help="messages of 512 spans a run of the stages (128)")
    parser.add_argument("--broker-messages", type=int, default=400, help="messages a run on the broker (400)")
    parser.add_argument("--no-broker", action="store_true", help="the stages only")
    arguments = parser.parse_args()
    print(machine())
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[-1]})
    spans, measured = stages.measure(arguments.runs, arguments.seed, arguments.messages)
    print(f"\nstages, one process pinned to one core, {spans} spans a run, median of {arguments.runs}:")
    for stage in measured:
        print(f"  {stage.name:24} {stage.us_per_span:7.3f} µs/span")
    beyond = sum(stage.us_per_span for stage in measured if stage.name in BEYOND_DECODING)
    print(f"  {'everything but decoding':24} {beyond:7.3f} µs/span (budget 2.2)")
    if not arguments.no_broker:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(allowed))
        _print_end_to_end(arguments)
    return 0


def _print_end_to_end(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as logs:
        results = [
            end_to_end.measure(arguments.seed + run, arguments.broker_messages, Path(logs))
            for run in range(arguments.runs)
        ]
    print(f"\nsource topic on a real broker → counted state, {results[0].spans} spans a run, median of {len(results)}")
    print(f"({SERVICES} services × {VERSIONS} versions × 2 objectives, zstd off):")
    for name, value in (
        ("spans per CPU-second", statistics.median(r.spans_per_cpu_s for r in results)),
        ("µs/span in ingest", statistics.median(r.ingest_cpu_s / r.spans * 1e6 for r in results)),
        ("µs/span in state", statistics.median(r.state_cpu_s / r.spans * 1e6 for r in results)),
        ("state worker, MB", max(r.state_rss_mb for r in results)),
    ):
        print(f"  {name:24} {value:12,.2f}")


def machine() -> str:
    """Returns what the figures depend on."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("numpy", "pyarrow", "aiokafka", "faust-streaming")
    )
    return f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    raise SystemExit(main())
