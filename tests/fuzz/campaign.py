"""Batches of all formats in turn until the time is over, and the smallest messages that show what was found."""

from __future__ import annotations

import faulthandler
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from stream.core.otlp import Messages, Reading
from tests.fuzz import trial
from tests.fuzz.checks import check
from tests.fuzz.formats import READINGS, Batch, Format
from tests.fuzz.guard import FILLS, Guard, Place
from tests.fuzz.trial import Tally

HANG_S = 120.0
"""A batch that takes longer hangs: the slowest take one."""

COMPILE_S = 1200.0
GROWTH_MAX_BYTES = 300 << 20
"""How much larger the process may be at any time than it was when every decoder had run."""

_SMALLER_TRIES = 400
SMALLER_S = 20.0
"""How long a finding is made smaller at most."""

_SAY_EACH_S = 60.0
_WARM_BATCHES = (1, 3, 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run.

    Args:
        formats: The formats, by name.
        seed: Of all choices.
        seconds: For how long.
        messages: Ends earlier once so many were run; None for no such end.
    """

    formats: Mapping[str, Format]
    seed: int
    seconds: float
    messages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that does not hold, and the fewest bytes that were found to show it."""

    format: str
    what: str
    values: Sequence[bytes | None]


Journal = Callable[[str], None]
"""Is told what is about to be run, so that it is known of a process that dies."""


def run(options: Options, journal: Journal = lambda _: None) -> tuple[Mapping[str, Tally], Finding | None]:
    """Runs batches until the time is over or something is found; returns what was run and what was found."""
    tallies = {name: Tally() for name in options.formats}
    spent_s = dict.fromkeys(options.formats, 0.0)
    numbers = dict.fromkeys(options.formats, 0)
    with Guard() as guard:
        for name, format_ in options.formats.items():
            for number in _WARM_BATCHES:
                journal(f"{name} {number}")
                if found := _one(guard, format_, options.seed, number, Tally(), COMPILE_S):
                    return tallies, found
        base, begun = _resident_bytes(), time.monotonic()
        said = begun
        while time.monotonic() - begun < options.seconds:
            # Equal time for each: some formats are slower to refuse than others.
            name = min(spent_s, key=spent_s.__getitem__)
            before = time.monotonic()
            journal(f"{name} {numbers[name]}")
            if found := _one(guard, options.formats[name], options.seed, numbers[name], tallies[name], HANG_S):
                return tallies, found
            numbers[name] += 1
            spent_s[name] += time.monotonic() - before
            if (growth := _resident_bytes() - base) > GROWTH_MAX_BYTES:
                return tallies, Finding(format=name, what=f"the process grew by {growth >> 20} MiB", values=())
            if time.monotonic() - said > _SAY_EACH_S:
                said = time.monotonic()
                print(f"{said - begun:6.0f} s: {sum(one.messages for one in tallies.values()):,} messages", flush=True)
            if options.messages is not None and sum(one.messages for one in tallies.values()) >= options.messages:
                break
    print(f"memory: {base >> 20} MiB at the start, {_resident_bytes() - base >> 20:+d} MiB at the end", flush=True)
    return tallies, None


def _resident_bytes() -> int:
    resident: int = psutil.Process().memory_info().rss
    return resident


def _one(guard: Guard, format_: Format, seed: int, number: int, tally: Tally, limit_s: float) -> Finding | None:
    faulthandler.dump_traceback_later(limit_s, exit=True)
    batch = format_.batch(seed, number)
    try:
        tally.add(trial.run(guard, format_, batch, np.random.default_rng((seed, number))))
    except Exception as error:  # whatever it is, a decoder never raises on what a producer sent
        faulthandler.cancel_dump_traceback_later()
        values = smaller(list(batch.messages.values), lambda values: bool(failure(guard, format_, values, batch)))
        return Finding(format=format_.name, what=f"batch {number}: {type(error).__name__}: {error}", values=values)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def each(guard: Guard, format_: Format, batch: Batch, journal: Journal) -> None:
    """Decodes the messages of a batch one by one; the journal is told the index of each before."""
    for index, value in enumerate(batch.messages.values):
        journal(str(index))
        faulthandler.dump_traceback_later(HANG_S if index else COMPILE_S, exit=True)
        for place in (batch.place, replace(batch.place, at_the_end=not batch.place.at_the_end)):
            guard.place = place
            for reading in READINGS:
                format_.compiled(Messages.of([value]), reading)
    faulthandler.cancel_dump_traceback_later()


def failure(guard: Guard, format_: Format, values: Sequence[bytes | None], like: Batch | None = None) -> str | None:
    """Returns what does not hold of some messages, every one of which is compared; None when all is well.

    Args:
        guard: Where the messages lie; it is installed.
        format_: Whose decoders.
        values: The messages.
        like: Read as those of this batch only; None for in every way.
    """
    offsets = like.messages.offset if like is not None else np.arange(len(values))
    stride = int(offsets[1] - offsets[0]) if len(offsets) > 1 else 1
    for reading, place in _ways(like):
        messages = Messages.of(values)
        batch = Batch(messages=replace(messages, offset=stride * messages.offset), reading=reading, place=place)
        try:
            guard.place = place
            whole = format_.compiled(batch.messages, reading)
            check(whole, batch.messages, format_.signal)
            trial.compare(guard, format_, batch, whole, np.arange(len(values)))
            trial.run(guard, format_, batch, np.random.default_rng(len(values)))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


def _ways(like: Batch | None) -> Iterator[tuple[Reading, Place]]:
    if like is not None:
        yield like.reading, like.place
        return
    for reading in READINGS:
        for fill in FILLS:
            for at_the_end in (True, False):
                yield reading, Place(at_the_end=at_the_end, fill=fill)


def smaller(
    values: list[bytes | None], fails: Callable[[list[bytes | None]], bool], tries: int = _SMALLER_TRIES
) -> list[bytes | None]:
    """Returns fewer and shorter messages with which something still fails, as far as tries and time lead."""
    left, until = tries, time.monotonic() + SMALLER_S
    size = len(values) // 2
    while size and len(values) > 1:
        for first in range(0, len(values), size):
            fewer = values[:first] + values[first + size :]
            left -= 1
            if fewer and fails(fewer):
                values = fewer
                break
        else:
            size //= 2
        if left < tries // 2 or time.monotonic() > until:
            break
    left = tries
    for at in range(len(values) if len(values) <= 4 else 0):
        size = len(values[at] or b"") // 2
        while size and left > 0 and time.monotonic() < until:
            value = values[at] or b""
            for first in range(0, len(value), size):
                shorter = [*values[:at], value[:first] + value[first + size :], *values[at + 1 :]]
                left -= 1
                if fails(shorter):
                    values = shorter
                    break
                if left <= 0:
                    break
            else:
                size //= 2
    return values


def written(finding: Finding, command: Sequence[str]) -> str:
    """Writes the messages of a finding to files; returns the command line that runs them again."""
    directory = Path(tempfile.mkdtemp(prefix="qma-fuzz-"))
    paths = []
    for number, value in enumerate(finding.values):
        path = directory / f"{finding.format}.{number}.bin"
        path.write_bytes(value or b"")
        paths.append(str(path))
    return " ".join([*command, "--format", finding.format, "--replay", *paths])


def lines(tallies: Mapping[str, Tally], seconds: float) -> Iterator[str]:
    """Yields what was run, a line a format, then in all."""
    every = Tally()
    for name, tally in tallies.items():
        every.add(tally)
        yield f"{name:<18} {_figures(tally)}"
    yield f"{'all':<18} {_figures(every)}, {seconds:.0f} s, {every.messages / max(seconds, 1e-9):,.0f} messages/s"


def _figures(tally: Tally) -> str:
    return (
        f"{tally.messages:>10,} messages, {tally.messages - tally.refused:>9,} accepted, {tally.refused:>9,} refused"
        f" at least in part, {tally.bytes / 1e6:>7,.0f} MB, {tally.compared:>7,} compared with the plain decoder"
    )
