"""Programs of Debian's package `prometheus`. What needs one is skipped, and says so, where it is not installed."""

from __future__ import annotations

import shutil

import pytest


def program(name: str) -> str:
    """Returns the path of a program on PATH, or skips the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED AGAINST A REAL PROMETHEUS: `{name}` is not on PATH; apt-get install prometheus")
    return found
