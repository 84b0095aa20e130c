"""`qma demo`: the main job in about a minute, on a real Kafka that it brings up by itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from stream.config.settings import LOCAL_BROKER


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--seed", type=int, default=1, help="fixes everything but the time base (1)")
    parser.add_argument("--duration", type=float, default=60.0, metavar="SECONDS", help="of the workload (60)")
    parser.add_argument("--rate", type=float, default=1.0, metavar="FACTOR", help="multiplies the traffic (1)")
    parser.add_argument("--broker", default=LOCAL_BROKER, metavar="HOST:PORT", help="use this Kafka (starts its own)")
    parser.add_argument("--kill-workers", type=int, default=0, metavar="N", help="SIGKILL N workers meanwhile (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from stream.demo import DemoOptions, run

    return run(
        DemoOptions(
            seed=arguments.seed,
            duration_s=arguments.duration,
            rate=arguments.rate,
            broker=arguments.broker,
            kill_workers=arguments.kill_workers,
            json_path=arguments.json,
            keep=arguments.keep,
        )
    )
