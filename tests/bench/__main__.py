"""`make bench`: what a span costs. Prints the machine, then a table a section: aim, figure, ratio to the other."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from tests.bench import chart, scrape, sections
from tests.bench.sections import Asked, Group

SECTIONS: Mapping[str, Callable[[Asked], Group | None]] = {
    "decoders": sections.decoders,
    "stages": sections.stages,
    "memory": sections.memory,
    "peers": sections.peers,
    "series": sections.series,
    "windows": sections.windows,
    "scrape": scrape.scrape,
    "broker": sections.broker,
}
"""In the order of a whole run. `peers` is `memory` with more of them, `stages` the same way of ours, stage by stage."""

_UNPINNED = ("broker",)


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", action="append", choices=[*SECTIONS], help="this section; may be repeated")
    parser.add_argument("--runs", type=int, default=5, help="median of so many turns (5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=128, help="messages of 513 spans a turn of ours (128)")
    parser.add_argument("--peer-messages", type=int, default=128, help="and of a peer, on the broker too (128)")
    parser.add_argument(
        "--broker-messages", type=int, default=1000, help="messages a turn of ours on the broker (1000)"
    )
    parser.add_argument("--svg", type=Path, help="write a picture of the result there")
    parser.add_argument("--logs", type=Path, help="keep what the processes on the broker say in this directory")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # a new topic has no leader for a moment
    print(machine())
    chosen = arguments.only or [name for name in SECTIONS if name not in ("memory", "stages")]
    if arguments.logs is not None:
        arguments.logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as forgotten:
        asked = Asked(
            runs=arguments.runs,
            seed=arguments.seed,
            messages=arguments.messages,
            peer_messages=arguments.peer_messages,
            broker_messages=arguments.broker_messages,
            logs=arguments.logs or Path(forgotten),
        )
        groups = [_pinned(name, asked) for name in SECTIONS if name in chosen]
    drawn = {group.title: group.rates for group in groups if group is not None}
    if arguments.svg is not None and drawn:
        chart.draw(drawn, arguments.svg)
    return 0


def _pinned(name: str, asked: Asked) -> Group | None:
    """Measures a section on one core; what has processes of its own counts their CPU time, wherever they run."""
    if name in _UNPINNED or not hasattr(os, "sched_setaffinity"):
        return SECTIONS[name](asked)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        return SECTIONS[name](asked)
    finally:
        os.sched_setaffinity(0, allowed)


def machine() -> str:
    """Returns what the figures depend on."""
    names = ("numpy", "numba", "pyarrow", "aiokafka", "faust-streaming")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    load = f"; load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}{load}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    raise SystemExit(main())
