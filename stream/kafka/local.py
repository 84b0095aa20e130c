"""A real single-node Apache Kafka on loopback, for the demo, for tests and for whoever has none."""

import atexit
import base64
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Self

from stream.core.errors import UnavailableError
from stream.kafka.jars import kafka_jars
from stream.kafka.java import find_java

READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
MESSAGE_MAX_BYTES = 8 << 20

_GUARD = Path(__file__).with_name("local_guard.py")
_FIRST_START_ATTEMPTS = 3
_TAIL_LINES = 25

_JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # leaves no file in /tmp behind when killed
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
initial.broker.registration.timeout.ms=60000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
message.max.bytes={message_max_bytes}
replica.fetch.max.bytes={message_max_bytes}
log.message.timestamp.type={timestamp_type}
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
offsets.topic.segment.bytes=16777216
transaction.state.log.segment.bytes=16777216
metadata.log.segment.bytes=16777216
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=3000
num.network.threads=2
num.io.threads=4
background.threads=2
"""

_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{{ISO8601}} %p %c{{1}}: %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
logger.settings.name = org.apache.kafka.common.config.AbstractConfig
logger.settings.level = warn
logger.partitions.name = kafka.log
logger.partitions.level = warn
logger.storage.name = org.apache.kafka.storage
logger.storage.level = warn
"""


class LocalKafka:
    """One Kafka broker (KRaft, broker and controller in one) that ends when this process ends, however it ends.

    Used as a context manager, or with `start` and `close`. Topics are not created by naming them.

    Args:
        data_dir: Where the node keeps its data, configuration and log; may hold those of an earlier run. When not
            given: a temporary directory, removed by `close`.
        port: The port clients connect to; a free one when not given. It stays the same over restarts.
        log_append: Topics that do not say otherwise carry the broker's time (LogAppendTime), not the producer's.
        jar_cache: Where the jars of Kafka are kept; the user's cache when not given.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        log_append: bool = False,
        jar_cache: Path | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._temporary = data_dir is None
        self._port = port
        self._timestamp_type = "LogAppendTime" if log_append else "CreateTime"
        self._jar_cache = jar_cache
        self._java: list[str] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._owner_pid = os.getpid()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """The address for clients, `127.0.0.1:PORT`; known from the first `start` on."""
        assert self._port is not None, "start() chooses the port"
        return f"127.0.0.1:{self._port}"

    @property
    def data_dir(self) -> Path:
        """The node's directory; known from the first `start` on."""
        assert self._data_dir is not None, "start() chooses the directory"
        return self._data_dir

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self.running, "the broker is not running"
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the broker's process is there (paused counts as there)."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Starts the node on its data and returns when it answers requests. The first start formats the data.

        Raises:
            UnavailableError: Kafka or Java cannot be had, or the node did not become ready; the message says what
                was tried, or shows the end of the node's log.
        """
        assert not self.running, "the broker is running already"
        self._end(signal.SIGKILL)  # lets go of what is left of a node that ended by itself
        self._prepare()
        attempts = 1 if self._port is not None else _FIRST_START_ATTEMPTS
        for attempt in range(1, attempts + 1):
            # Somebody else may take a free port between our look and the broker's bind.
            port = _free_port() if attempts > 1 else self._port
            assert port is not None
            try:
                self._launch(port)
            except _PortTakenError:
                if attempt == attempts:
                    raise
            else:
                self._port = port
                return

    def stop(self) -> None:
        """Stops the node in an orderly way; its data stay. Does nothing when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the node (kill -9); its data stay as they are. Does nothing when it is not running."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops the node when it runs and starts it again with the same data on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the node (SIGSTOP): connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused node go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the node for good; a temporary data directory is removed."""
        if os.getpid() != self._owner_pid:  # a forked child runs our exit handlers too: the broker is not its own
            return
        atexit.unregister(self.close)
        if self._temporary:
            self.kill()  # nobody will read the data again, so there is nothing to end in order
            if self._data_dir is not None:
                shutil.rmtree(self._data_dir, ignore_errors=True)
                self._data_dir = None
        else:
            self.stop()

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """Returns the last lines of the node's log; empty when there is none."""
        try:
            with self._log.open(encoding="utf-8", errors="replace") as file:
                return "".join(deque(file, maxlen=lines)).rstrip("\n")
        except FileNotFoundError:
            return ""

    @property
    def _log(self) -> Path:
        return self.data_dir / "broker.log"

    def _prepare(self) -> None:
        """Finds what is needed to run a node, and a directory for it."""
        if not self._java:
            java, jars = find_java(), kafka_jars(self._jar_cache)
            self._java = [str(java), *_JVM, "-cp", os.pathsep.join(map(str, jars))]
        if self._data_dir is None:
            self._data_dir = Path(tempfile.mkdtemp(prefix="qma-kafka-"))
        self._data_dir = self._data_dir.absolute()
        (self._data_dir / "tmp").mkdir(parents=True, exist_ok=True)
        atexit.unregister(self.close)
        atexit.register(self.close)

    def _launch(self, port: int) -> None:
        """Writes the configuration, formats empty data, starts the processes and waits until the node is ready."""
        config = self._configure(port)
        if not (self.data_dir / "data" / "meta.properties").exists():
            self._format(config)
        before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._guard = subprocess.Popen(
                [
                    *[sys.executable, "-I", "-S", str(_GUARD), str(os.getpid())],
                    str(self.data_dir) if self._temporary else "",
                    *self._command("kafka.Kafka", str(config)),
                ],
                stdin=subprocess.PIPE,  # never written to: it closes when this process dies
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd=self.data_dir,
            )
        try:
            self._pid = _read_pid(self._guard)
            self._await_ready(port, before)
        except BaseException:
            self.kill()
            raise

    def _configure(self, port: int) -> Path:
        (self.data_dir / "log4j2.properties").write_text(_LOGGING.format(), encoding="utf-8")
        config = self.data_dir / "server.properties"
        text = _SERVER.format(
            port=port,
            controller_port=_free_port(),
            log_dir=self.data_dir / "data",
            message_max_bytes=MESSAGE_MAX_BYTES,
            timestamp_type=self._timestamp_type,
        )
        config.write_text(text, encoding="utf-8")
        return config

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        return [
            *self._java,
            f"-Djava.io.tmpdir={self.data_dir / 'tmp'}",
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}",
            main_class,
            *arguments,
        ]

    def _format(self, config: Path) -> None:
        with self._log.open("ab") as log:
            done = subprocess.run(
                self._command("kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.data_dir,
                timeout=READY_TIMEOUT_S,
            )
        if done.returncode != 0:
            raise self._failure(f"formatting its data ended with status {done.returncode}")

    def _await_ready(self, port: int, log_start: int) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        cluster_id = _cluster_id_of(self.data_dir / "data")
        while not _answers(port, cluster_id):
            assert self._guard is not None
            if (status := self._guard.poll()) is not None:
                taken = self._port_was_taken(log_start)
                error = _PortTakenError if taken else UnavailableError
                reason = f"port {port} is in use" if taken else f"it ended with status {status}"
                raise self._failure(reason, error)
            if time.monotonic() > deadline:
                raise self._failure(f"it did not answer within {READY_TIMEOUT_S:.0f} s")
            time.sleep(0.05)

    def _port_was_taken(self, log_start: int) -> bool:
        with self._log.open("rb") as file:
            file.seek(log_start)
            return b"Address already in use" in file.read()

    def _failure(self, reason: str, error: type[UnavailableError] = UnavailableError) -> UnavailableError:
        tail = "\n".join(f"  | {line}" for line in self.log_tail().splitlines())
        return error(f"the local Kafka did not start: {reason}. The end of {self._log}:\n{tail}")

    def _end(self, how: signal.Signals) -> None:
        if self._guard is None:
            return
        if self._guard.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                if self._pid:
                    os.kill(self._pid, how)
                    os.kill(self._pid, signal.SIGCONT)  # a paused node could not end in order
                else:
                    self._guard.kill()
            try:
                self._guard.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._guard.pid, signal.SIGKILL)  # the guard leads the group
                self._guard.wait()
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard, self._pid = None, 0


class _PortTakenError(UnavailableError):
    """The port that was to be the broker's belongs to somebody else."""


def _read_pid(guard: subprocess.Popen[bytes]) -> int:
    assert guard.stdout is not None
    line = guard.stdout.readline()
    return int(line) if line else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cluster_id() -> str:
    """Returns a fresh cluster id: 16 random bytes, URL-safe base64, not to be taken for an option."""
    while True:
        encoded = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not encoded.startswith("-"):
            return encoded


def _cluster_id_of(log_dir: Path) -> str:
    properties = (log_dir / "meta.properties").read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("cluster.id=") for line in properties if line.startswith("cluster.id=")), "")


def _answers(port: int, cluster_id: str) -> bool:
    """Returns whether the broker on the port answers a Metadata request as a member of this very cluster.

    A connection alone proves nothing: the socket is open before requests are served, and it may be another program's.

    Source: the Kafka protocol guide, Metadata version 4.
    """
    correlation_id = 7
    # api key 3, version 4, correlation id, client id; topics: none (an empty array), do not create any.
    request = struct.pack(">hhih3si?", 3, 4, correlation_id, 3, b"qma", 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                size = int.from_bytes(stream.read(4), "big")
                reply = stream.read(min(size, 1 << 16))
    except OSError:
        return False
    if len(reply) < 12:
        return False
    answered, _throttle_ms, broker_count = struct.unpack_from(">iii", reply)
    return answered == correlation_id and broker_count >= 1 and cluster_id.encode() in reply
