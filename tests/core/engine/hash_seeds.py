"""Runs a script of this folder under several hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def printed(script: str, seeds: Iterable[str]) -> set[str]:
    """Returns the different texts that a script prints under the seeds."""
    return {
        subprocess.run(
            [sys.executable, str(Path(__file__).with_name(script))],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in seeds
    }
