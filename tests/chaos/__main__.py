"""`python -m tests.chaos`: runs seeds, prints what was found, exits 1 when anything differs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from stream.kafka.local import LocalKafka
from tests.chaos.run import Options, Report, run
from tests.chaos.storm import Intensity
from tests.chaos.verdict import Check

SECONDS_PER_BLOW = 4.0
"""Long enough for most restarts, short enough that some blows hit a pipeline that is still recovering."""


def main() -> int:
    """Runs the seeds one after the other. Returns 0 when all of them passed."""
    arguments = _parse()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of a broker that dies it has much to say
    base = Path(tempfile.mkdtemp(prefix="qma-chaos-"))
    passed = failed = 0
    for seed in arguments.seeds:
        report = _one(arguments, seed, base / f"seed-{seed}")
        for line in (*report.checks, *report.figures, report.summary):
            print(line, flush=True)
        if report.passed:
            passed += 1
            if not arguments.keep:
                shutil.rmtree(base / f"seed-{seed}")
        else:
            failed += 1
            print(f"logs and the broker's data: {base / f'seed-{seed}'}", flush=True)
    if len(arguments.seeds) > 1:
        print(f"{passed} passed, {failed} failed", flush=True)
    if not any(base.iterdir()):
        base.rmdir()
    return 1 if failed else 0


def _one(arguments: argparse.Namespace, seed: int, directory: Path) -> Report:
    directory.mkdir(parents=True)
    intensity = _intensity(arguments)
    options = Options(
        seed=seed,
        rate=arguments.rate,
        intensity=intensity,
        directory=directory,
        prefix=f"chaos{seed}.",
        verbose=arguments.verbose,
    )
    with LocalKafka(directory / "kafka") as kafka:
        report = asyncio.run(run(kafka, options))
        broker = kafka.pid if kafka.running else None
    left = broker is not None and Path(f"/proc/{broker}").exists()
    report.checks.append(Check(name="no broker left", passed=not left, detail=f"{broker if left else 'none'}"))
    return report


def _intensity(arguments: argparse.Namespace) -> Intensity:
    kills = arguments.kills
    zombies = max(1, kills // 3) if arguments.zombies is None else arguments.zombies
    brokers = max(1, kills // 6) if arguments.broker_kills is None else arguments.broker_kills
    joins = max(1, kills // 5) if arguments.joins is None else arguments.joins
    seconds = arguments.seconds or 10 + SECONDS_PER_BLOW * (kills + zombies + brokers + joins)
    return Intensity(seconds=seconds, kills=kills, zombies=zombies, broker_kills=brokers, joins=joins)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", dest="seeds", type=_seeds, metavar="S", help="one seed (1)")
    parser.add_argument("--seeds", dest="seeds", type=_seeds, metavar="A..B", help="several seeds, one after the other")
    parser.add_argument("--kills", type=int, default=12, metavar="K", help="workers killed with kill -9 (12)")
    parser.add_argument("--zombies", type=int, metavar="N", help="workers frozen for 8 to 14 s (a third of the kills)")
    parser.add_argument("--broker-kills", type=int, metavar="N", help="kill -9 of the broker (a sixth of the kills)")
    parser.add_argument("--joins", type=int, metavar="N", help="workers that join and leave (a fifth of the kills)")
    parser.add_argument("--seconds", type=float, metavar="N", help="of chaos (4 a blow)")
    parser.add_argument("--rate", type=float, default=1000.0, metavar="R", help="events per second (1000)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of passed seeds too")
    parser.add_argument("--verbose", action="store_true", help="print every blow")
    parser.set_defaults(seeds=[1])
    return parser.parse_args()


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("..")
    return list(range(int(first), int(last or first) + 1))


if __name__ == "__main__":
    sys.exit(main())
