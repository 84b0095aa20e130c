"""The program itself; whether the forecast is calibrated is asked in tests/core/statistics/test_forecast.py."""

import sys

import pytest

from tests.calibrate.__main__ import main
from tests.calibrate.processes import PROCESSES


def test_a_short_run_prints_every_process_and_gives_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["calibrate", "--runs", str(len(PROCESSES)), "--seed", "3"])
    assert main() == 0
    printed = capsys.readouterr().out
    first_words = [line[:16].strip() for line in printed.splitlines()]
    assert first_words[1 : len(PROCESSES) + 2] == [*PROCESSES, "all"]
    assert printed.endswith("too few for a verdict\n")
