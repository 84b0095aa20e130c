"""Programs of Debian's `prometheus-alertmanager`. What needs one is skipped where it is not installed, and says so."""

from __future__ import annotations

import os
import shutil

import pytest


def program(*names: str) -> str:
    """Returns the path of a program under any of its names, on PATH or in $QMA_TEST_BIN, or skips the test."""
    path = os.pathsep.join(filter(None, [os.environ.get("QMA_TEST_BIN"), os.environ.get("PATH")]))
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    pytest.skip(
        f"NOT TESTED AGAINST A REAL ALERTMANAGER: `{names[0]}` is neither on PATH nor in $QMA_TEST_BIN; "
        "apt-get install prometheus-alertmanager"
    )
