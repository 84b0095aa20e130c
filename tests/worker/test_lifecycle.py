"""A state worker's ordinary life: start, SIGTERM, restart; and a start that must be refused."""

import signal
import time

import pytest

from stream.kafka.local import LocalKafka
from tests.worker.pipeline import Pipeline, assert_exactly_once

pytestmark = pytest.mark.kafka

FAUST_SEEK_TIMEOUT_S = 10


def test_sigterm_checkpoints_everything_and_a_restart_goes_on(pipeline: Pipeline) -> None:
    pipeline.append(20, partition=0)
    pipeline.append(5, partition=1)
    first = pipeline.start(checkpoint_interval_s=60)  # so that only the stop can have checkpointed
    first.until(lambda: first.applied(19, 4), "caught up")
    first.signal(signal.SIGTERM)
    assert first.exit_code(within_s=10) == 0, first.stderr
    assert [pipeline.restored(p).log_offset for p in (0, 1)] == [19, 4]

    pipeline.append(10, partition=0)
    second = pipeline.start()
    second.until(lambda: second.applied(29, 4), "caught up")
    second.signal(signal.SIGTERM)
    assert second.exit_code(within_s=10) == 0, second.stderr
    assert_exactly_once(pipeline)


def test_a_log_that_lost_records_stops_the_worker(pipeline: Pipeline) -> None:
    pipeline.append(10, partition=0)
    worker = pipeline.start()
    worker.until(lambda: worker.applied(9), "caught up")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code(within_s=10) == 0, worker.stderr
    pipeline.append(10, partition=0)
    pipeline.delete_log_before(15, partition=0)
    refused = pipeline.start()
    assert refused.exit_code() == 78, refused.stderr
    reason = refused.stderr.strip().splitlines()[-1]
    assert f"{pipeline.options.shuffle_topic}-0: wanted offset 10, first available offset 15" in reason
    assert pipeline.restored(0).log_offset == 9


def test_two_workers_share_the_partitions_until_one_leaves(pipeline: Pipeline) -> None:
    for partition in (0, 1):
        pipeline.append(10, partition=partition)
    first = pipeline.start()
    first.until(lambda: first.applied(9, 9), "caught up")
    second = pipeline.start()
    second.until(lambda: second.ready_with(1) and first.ready_with(1), "sharing")
    for partition in (0, 1):
        pipeline.append(10, partition=partition)
    second.until(lambda: all(19 in worker.status["applied"].values() for worker in (first, second)), "caught up")
    first.signal(signal.SIGTERM)
    assert first.exit_code(within_s=10) == 0, first.stderr
    pipeline.append(5, partition=0)
    second.until(lambda: second.applied(24, 19), "the owner of both")
    second.signal(signal.SIGTERM)
    assert second.exit_code(within_s=10) == 0, second.stderr
    assert_exactly_once(pipeline)


def test_a_broker_that_is_away_during_the_seek_delays_the_worker_and_ends_nothing(
    pipeline: Pipeline, kafka: LocalKafka
) -> None:
    pipeline.append(10, partition=0)
    worker = pipeline.start()
    (worker.hooks / "stop-restored-1").touch()
    worker.until(lambda: worker.frozen, "frozen")
    kafka.pause()
    try:
        worker.signal(signal.SIGCONT)
        time.sleep(FAUST_SEEK_TIMEOUT_S + 2)  # the outage: Faust's loop used to end when its seek had not by then
    finally:
        kafka.resume()
    worker.until(lambda: worker.applied(9, -1), "reading after the outage")
    second = pipeline.start()
    second.until(lambda: second.ready_with(1) and worker.ready_with(1), "sharing")
    for partition in (0, 1):
        pipeline.append(5, partition=partition)
    worker.until(lambda: {14, 4} == {n for w in (worker, second) for n in w.status["applied"].values()}, "caught up")


def test_a_record_that_is_none_stops_the_worker_and_is_named(pipeline: Pipeline) -> None:
    pipeline.append(3, partition=1)
    pipeline.append_bytes(b"not a log record", partition=1)
    worker = pipeline.start()
    assert worker.exit_code() == 70, worker.stderr
    assert f"{pipeline.options.shuffle_topic}-1@3 cannot be applied" in worker.stderr.strip().splitlines()[-1]
