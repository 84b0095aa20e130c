"""`python -m tests.fuzz`: mutated messages through every compiled decoder; exits 1 when anything is found."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from pathlib import Path

from stream.config.kernel_cache import use_kernel_cache

use_kernel_cache()  # before a decoder is imported

from tests.fuzz import campaign, supervisor  # noqa: E402
from tests.fuzz.formats import formats  # noqa: E402
from tests.fuzz.guard import Guard  # noqa: E402

COMMAND = (sys.executable, "-m", "tests.fuzz")


def main(arguments: list[str] | None = None) -> int:
    """Runs a campaign in a process of its own, or replays messages; returns 0 when nothing was found."""
    asked = _parser().parse_args(arguments)
    if asked.replay:
        return replay(asked.format, asked.replay)
    if asked.each:
        return each(*asked.each, seed=asked.seed)
    if asked.unsupervised:
        return unsupervised(asked)
    given = sys.argv[1:] if arguments is None else arguments
    command = [*COMMAND, "--unsupervised", *given]
    ended, finding = supervisor.supervised(command, formats(), seed=asked.seed)
    if finding is not None:
        _report(finding)
    return ended


def unsupervised(asked: argparse.Namespace) -> int:
    """Runs a campaign in this process."""
    faulthandler.enable()
    known = formats()
    names = asked.formats.split(",") if asked.formats else [*known]
    options = campaign.Options(
        formats={name: known[name] for name in names},
        seed=asked.seed,
        seconds=asked.seconds,
        messages=asked.messages,
    )
    # Nothing is printed before the end, which may be far off.
    print(f"{asked.seconds:g} s, after the decoders are compiled where they are not yet: minutes", file=sys.stderr)
    begun = time.monotonic()
    tallies, finding = campaign.run(options, supervisor.journal)
    for line in campaign.lines(tallies, time.monotonic() - begun):
        print(line, flush=True)
    if finding is not None:
        _report(finding)
    print(f"seed {asked.seed}: {'1 difference' if finding else '0 differences'}", flush=True)
    supervisor.journal(supervisor.DONE)
    return 1 if finding else 0


def _report(finding: campaign.Finding) -> None:
    print(f"{finding.format}: {finding.what}", flush=True)
    for value in finding.values[:2]:
        print(f"  {value!r}"[:500], flush=True)
    print(f"again: {campaign.written(finding, COMMAND)}", flush=True)


def replay(name: str, paths: list[Path]) -> int:
    """Runs the messages of files, in every way in which messages are read; returns 0 when nothing was found."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(campaign.COMPILE_S, exit=True)
    with Guard() as guard:
        found = campaign.failure(guard, formats()[name], [path.read_bytes() for path in paths])
    faulthandler.cancel_dump_traceback_later()
    print(found or "nothing was found", flush=True)
    return 1 if found else 0


def each(name: str, number: str, *, seed: int) -> int:
    """Decodes the messages of a batch one by one, each of which the journal names before. Returns 0."""
    faulthandler.enable()
    format_ = formats()[name]
    with Guard() as guard:
        campaign.each(guard, format_, format_.batch(seed, int(number)), supervisor.journal)
    supervisor.journal(supervisor.DONE)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    parser.add_argument("--messages", type=int, metavar="N", help="end earlier, after so many messages")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of all choices (1)")
    parser.add_argument("--formats", metavar="NAME,…", help="such as span.otlp_proto,event.flat (all)")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run these messages, one a file")
    parser.add_argument("--format", metavar="NAME", help="of the messages to replay")
    parser.add_argument("--each", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--unsupervised", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
