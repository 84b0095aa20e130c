"""The messages that `qma decode` is given: files of raw bytes, files of base64 lines, or what a topic holds."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from stream.core.errors import ConfigError
from stream.kafka.batches import RefusedBatch, refused
from stream.kafka.clients import ConsumerRecord, Guard, TopicPartition, assigned_reader, stop
from stream.kafka.read_to_end import read_to_end
from stream.kafka.topic_ids import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One message and where it was found; value None for a tombstone.

    In the place of the messages of a batch that cannot be read stands one payload that says why.
    """

    at: str
    value: bytes | None
    refused: RefusedBatch | None = None

    @property
    def messages(self) -> int:
        """The number of messages that this stands for."""
        return 1 if self.refused is None else self.refused.records


def from_files(names: Sequence[str]) -> Iterator[Payload]:
    """Yields the messages of files: of `.jsonl` and `.jsonl.gz` one a line, of any other the whole file.

    Raises:
        ConfigError: A file cannot be read, holds nothing, or a line of it is no message in base64.
    """
    for name in names:
        path = Path(name)
        try:
            if name.endswith((".jsonl", ".jsonl.gz")):
                yield from _lines(path)
            else:
                yield _whole(path)
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"{name} cannot be read ({why}); name a file of message bytes or of lines") from error


def _whole(path: Path) -> Payload:
    value = path.read_bytes()
    if not value:
        raise ConfigError(f"{path} is empty; write the bytes of one message into it")
    return Payload(at=str(path), value=value)


def _lines(path: Path) -> Iterator[Payload]:
    empty = True
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                empty = False
                yield Payload(at=f"{path}:{number}", value=_value(line, f"{path}, line {number}"))
    if empty:
        raise ConfigError(f"{path} has no lines; write a JSON object a line with the message in base64 as `value`")


def _value(line: bytes, at: str) -> bytes | None:
    """Returns the message on a line, None for a tombstone."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(
            f"{at} is no JSON ({error}); a line is a JSON object with the message in base64 as `value`, and a file "
            "that is one message has another name than .jsonl"
        ) from error
    if not isinstance(record, dict) or "value" not in record:
        raise ConfigError(f"{at} has no `value`; put the message there, in base64")
    text = record["value"]
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ConfigError(
            f"{at}: `value` is no base64 ({error}); encode the message's bytes, for example with `base64 -w0`"
        ) from error


async def from_topic(bootstrap: str, topic: str, limit: int | None) -> AsyncGenerator[Payload, None]:
    """Yields what a topic holds now, from its oldest message on; it stays as it is.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        topic: Its whole name.
        limit: End after so many messages, those of batches that cannot be read included.

    Raises:
        ConfigError: When there is no such topic.
        UnavailableError: When no broker answers.
    """
    # As the ingest reads it: what it steps over is stepped over here.
    reader = await assigned_reader(bootstrap, guard=Guard())
    try:
        found = await describe(reader, [topic])
        if topic not in found:
            raise ConfigError(f"no topic {topic} at {bootstrap}; name one that exists")
        partitions = [TopicPartition(topic, number) for number in range(found[topic].partitions)]
        read = 0
        async for record in read_to_end(reader, partitions):
            payload = _payload(record)
            yield payload
            read += payload.messages
            if limit is not None and read >= limit:
                break
    finally:
        await stop(reader)


def _payload(record: ConsumerRecord) -> Payload:
    batch = refused(record)
    if batch is None:
        return Payload(at=f"{record.topic}/{record.partition}@{record.offset}", value=record.value)
    return Payload(at=f"{record.topic}/{record.partition}@{batch.first_offset}", value=None, refused=batch)
