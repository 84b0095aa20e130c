"""`--broker local`: one Kafka on the user's own data, shared by the commands that run at the same time."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

import pytest

from stream.cli.connection import Connection, add_arguments, connected
from stream.cli.worker import stuck
from stream.core.errors import ConfigError
from stream.kafka.local import LocalKafka
from stream.worker.status import StateStatus


def parse(*arguments: str) -> argparse.Namespace:
    """Returns the options as a command gets them."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a running local Kafka says where it is; data goes to a temporary directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = tmp_path / "qma-stream" / "kafka" / "address"
    path.parent.mkdir(parents=True)
    return path


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QMA_BROKER", "there:9092")
    monkeypatch.setenv("QMA_PREFIX", "one.")
    monkeypatch.setenv("QMA_LISTEN", "127.0.0.1:9000")

    with connected(parse()) as found:
        assert found == Connection(bootstrap="there:9092", prefix="one.", listen="127.0.0.1:9000")
    with connected(parse("--broker", "here:9092,here:9093", "--prefix", "two.")) as found:
        assert found == Connection(bootstrap="here:9092,here:9093", prefix="two.", listen="127.0.0.1:9000")


def test_a_malformed_prefix_is_refused_wherever_it_comes_from():
    with pytest.raises(ConfigError, match="the topic prefix"), connected(parse("--broker", "a:1", "--prefix", "a b")):
        pass


@pytest.mark.kafka
def test_a_local_kafka_that_another_command_runs_is_used(kafka: LocalKafka, address: Path):
    address.write_text(f"{os.getpid()} {kafka.bootstrap}\n")

    with connected(parse("--broker", "local")) as found:
        assert found.bootstrap == kafka.bootstrap

    assert address.exists(), "it belongs to the other command"


@pytest.mark.kafka
def test_an_address_that_was_left_behind_is_not_believed(address: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
    address.write_text(f"{os.getpid()} {gone}\n")  # a process of this number runs, but it is not that Kafka

    with connected(parse("--broker", "local")) as found:
        assert found.bootstrap != gone
        assert address.read_text() == f"{os.getpid()} {found.bootstrap}\n"

    assert not address.exists()


def test_a_partition_with_records_and_no_checkpoint_for_a_minute_is_unhealthy():
    status = StateStatus(checkpoint_at_s={3: 100.0, 4: 100.0}, log_lag={3: 5, 4: 0})

    assert stuck(status, now_s=159.0) is None
    assert stuck(status, now_s=161.0) == "partition 3: no checkpoint for 61 s, with a log to apply"
    status.log_lag[3] = 0
    assert stuck(status, now_s=161.0) is None
