"""The whole pipeline as processes, killed and frozen, on a broker that is killed: nothing is lost or counted twice.

A short run of `tests.chaos`. The zombie that wakes inside its checkpoint is in `test_zombie.py`.
"""

import asyncio
from pathlib import Path

import pytest

from stream.kafka.local import LocalKafka
from tests.chaos.run import Options, run
from tests.chaos.storm import Intensity

pytestmark = pytest.mark.kafka


def test_state_and_outputs_are_exact_after_kills_a_freeze_and_a_dead_broker(
    kafka: LocalKafka, topic_prefix: str, tmp_path: Path
) -> None:
    intensity = Intensity(seconds=20, kills=4, zombies=1, broker_kills=1, joins=0)
    options = Options(seed=4, rate=400, intensity=intensity, directory=tmp_path, prefix=topic_prefix)
    try:
        report = asyncio.run(run(kafka, options))
    finally:
        if not kafka.running:  # the run ended between the death of the broker and its return
            kafka.start()
    assert report.passed, "\n".join([*map(str, report.checks), *report.figures, f"logs: {tmp_path}"])
