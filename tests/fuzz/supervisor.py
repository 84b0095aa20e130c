"""Runs the campaign in a process of its own: one that crashes or hangs tells afterwards in which batch it was."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fuzz.campaign import Finding
from tests.fuzz.formats import Format

DONE = "done"
"""What the journal says of a process that ended as it should."""

JOURNAL = "QMA_FUZZ_JOURNAL"
"""Variable of the environment that names the journal's file."""


def journal(text: str) -> None:
    """Writes what is about to be run where the supervising process finds it."""
    path = os.environ.get(JOURNAL)
    if path is not None:
        Path(path).write_text(text)


def supervised(command: Sequence[str], formats: Mapping[str, Format], *, seed: int) -> tuple[int, Finding | None]:
    """Runs a campaign; returns how it ended, and which messages end a process, when it was ended by some.

    Args:
        command: Runs the campaign; with `--each`, a format and a number the messages of that batch, one by one.
        formats: The formats, to make the messages again.
        seed: Of the campaign.
    """
    ended, said = _watched(command)
    if said in (DONE, ""):
        return ended, None
    name, number = said.split()
    how = signal.Signals(-ended).name if ended < 0 else "it took too long"
    what = f"seed {seed}, batch {number} ended the process: {how}"
    values = formats[name].batch(seed, int(number)).messages.values
    return 1, Finding(format=name, what=what, values=_guilty([*command, "--each", name, number], values))


def _watched(command: Sequence[str]) -> tuple[int, str]:
    """Runs a process; returns how it ended, and what its journal says last."""
    with tempfile.TemporaryDirectory(prefix="qma-fuzz-journal-") as directory:
        path = Path(directory) / "journal"
        path.touch()
        ended = subprocess.run(command, env={**os.environ, JOURNAL: str(path)}, check=False).returncode
        return ended, path.read_text()


def _guilty(command: Sequence[str], values: Sequence[bytes | None]) -> Sequence[bytes | None]:
    """Returns the message that ends a process by itself; all of them when none does."""
    _, said = _watched(command)
    return [values[int(said)]] if said.isdecimal() else values
