"""The worker that freezes inside a checkpoint and wakes when another has gone on: it must not write a thing."""

import signal

import pytest

from tests.worker.pipeline import Pipeline, assert_exactly_once

pytestmark = pytest.mark.kafka


def test_a_worker_frozen_in_a_checkpoint_is_fenced_when_it_wakes(pipeline: Pipeline) -> None:
    pipeline.append(20, partition=0)
    pipeline.append(20, partition=1)
    zombie = pipeline.start(session_timeout_s=3)
    zombie.until(lambda: zombie.checkpointed(19, 19), "checkpointed")
    # All records of the transaction are acknowledged, its commit is not sent: one request is missing.
    (zombie.hooks / "stop-acked-0").touch()
    pipeline.append(10, partition=0)
    zombie.until(lambda: zombie.frozen, "frozen")

    successor = pipeline.start(session_timeout_s=3)
    successor.until(lambda: successor.applied(29, 19), "taken over")
    pipeline.append(10, partition=0)
    pipeline.append(10, partition=1)
    successor.until(lambda: successor.applied(39, 29), "caught up")

    zombie.signal(signal.SIGCONT)
    assert zombie.exit_code() == 70, zombie.stderr
    assert "checkpoint failed" in zombie.stderr.strip().splitlines()[-1]

    pipeline.append(5, partition=0)
    successor.until(lambda: successor.applied(44, 29), "gone on")
    successor.signal(signal.SIGTERM)
    assert successor.exit_code(within_s=10) == 0, successor.stderr
    assert_exactly_once(pipeline)
