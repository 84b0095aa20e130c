"""The one kind of record in the shuffle log: a header and optional sections that are applied together.

Layout: magic `QMAL`, format (u16 LE), header length (u32 LE), header (JSON), then the sections in the order that the
header lists. Everything that a decision depends on is in this log, time and configuration included.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import orjson

from stream.core.columns import (
    Receipts,
    Rows,
    decode_receipts,
    decode_rows,
    encode_receipts,
    encode_rows,
)
from stream.core.errors import DecodeError, IncompatibleError
from stream.core.fingerprints import Fingerprints, decode_fingerprints, encode_fingerprints
from stream.core.indicators import Indicators, decode_indicators, encode_indicators
from stream.core.points import Points, decode_points, encode_points

MAGIC = b"QMAL"
FORMAT = 2
"""Format 1 had no points and no fingerprints, and rows with fewer columns; this version reads it, too."""
_PREFIX = struct.Struct("<4sHI")
_SECTIONS = ("config", "fingerprints", "rows", "points", "indicators", "backfill", "receipts", "progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRange:
    """What a record covers of one source partition: every row and receipt in [first_offset, next_offset) for this
    destination is in this record or in an earlier one of the same session.

    A session is one assignment of one source partition to one process; `first_offset` is where it began.
    """

    topic: str
    topic_id: str
    partition: int
    session: str
    first_offset: int
    next_offset: int

    @property
    def id(self) -> str:
        """The identity of the source: a recreated topic has another topic id, so nothing is confused with the old."""
        return f"{self.topic_id}/{self.partition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceProgress:
    """How far one source has been read, in its own time.

    Args:
        source: Index into the record's source table.
        began_ns: Timestamp of the first message that the session read; None while it has read none.
        until_ns: Timestamp up to which the source has been read (largest seen); None while nothing was read.
        at_end: The source was read to its end, asked for after the last progress record was acknowledged.
    """

    source: int
    began_ns: int | None
    until_ns: int | None
    at_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRange:
    """Offsets [first_offset, next_offset) of a source that expired before they were read."""

    source: int
    first_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The reading positions of a process, sent to every partition once a second.

    `topic_partitions` is the number of partitions of each source topic as the process knows it.
    """

    sources: tuple[SourceProgress, ...]
    topic_partitions: dict[str, int]
    lost: tuple[LostRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One record of the shuffle log.

    Args:
        generation: Pipeline generation; another one than the configuration's stops the worker.
        partitions: P, the number of partitions of the shuffle log; likewise.
        incarnation: The ingest process that wrote it, unique per process start.
        sequence: Counts the records of this incarnation at this destination, from 0.
        config_version: Version of the configuration under which the rows were decoded.
        sources: What is covered of each source; rows, receipts and progress refer to it by index.
        fingerprints: Of the messages that rows and points came from, where repeated ones are looked for.
        config: Body of configuration `config_version`, where this record is the first to need it.
        backfill: What an objective has not counted of the past (`engine.backfill`).
    """

    generation: str
    partitions: int
    incarnation: str
    sequence: int
    config_version: int
    sources: tuple[SourceRange, ...]
    config: bytes | None = None
    fingerprints: Fingerprints | None = None
    rows: Rows | None = None
    points: Points | None = None
    indicators: Indicators | None = None
    backfill: bytes | None = None
    receipts: Receipts | None = None
    progress: Progress | None = None


def encode_record(record: LogRecord) -> bytes:
    """Returns the bytes of a record."""
    bodies: dict[str, bytes] = {}
    if record.config is not None:
        bodies["config"] = record.config
    if record.fingerprints is not None and len(record.fingerprints):
        bodies["fingerprints"] = encode_fingerprints(record.fingerprints)
    if record.rows is not None and len(record.rows):
        bodies["rows"] = encode_rows(record.rows)
    if record.points is not None and len(record.points):
        bodies["points"] = encode_points(record.points)
    if record.indicators is not None and len(record.indicators):
        bodies["indicators"] = encode_indicators(record.indicators)
    if record.backfill is not None:
        bodies["backfill"] = record.backfill
    if record.receipts is not None and len(record.receipts):
        bodies["receipts"] = encode_receipts(record.receipts)
    if record.progress is not None:
        bodies["progress"] = orjson.dumps(record.progress)
    header = orjson.dumps(
        {
            "generation": record.generation,
            "partitions": record.partitions,
            "incarnation": record.incarnation,
            "sequence": record.sequence,
            "config_version": record.config_version,
            "sources": [
                [s.topic, s.topic_id, s.partition, s.session, s.first_offset, s.next_offset] for s in record.sources
            ],
            "sections": {name: len(body) for name, body in bodies.items()},
        }
    )
    return b"".join((_PREFIX.pack(MAGIC, FORMAT, len(header)), header, *bodies.values()))


def decode_record(data: bytes) -> LogRecord:
    """Returns the record in `data`.

    Raises:
        IncompatibleError: When another format wrote it; the worker must be upgraded first.
        DecodeError: When it is no log record at all.
    """
    header, position = _header(data)
    try:
        return _decode_sections(header, data, position)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DecodeError("corrupt_record", f"the header or the progress is not as it should be: {error!r}") from error


def _decode_sections(header: dict[str, Any], data: bytes, position: int) -> LogRecord:
    bodies: dict[str, bytes] = {}
    for name, length in header["sections"].items():
        if name not in _SECTIONS:
            raise IncompatibleError(
                f"the log record has a section {name!r} that this version does not know; upgrade this worker"
            )
        # A copy begins at an aligned address, and so do its columns: numpy is up to thirty times slower on others.
        bodies[name] = data[position : position + length]
        position += length
    if position != len(data):
        raise DecodeError("corrupt_record", f"sections end at byte {position} of {len(data)}")
    return LogRecord(
        generation=header["generation"],
        partitions=header["partitions"],
        incarnation=header["incarnation"],
        sequence=header["sequence"],
        config_version=header["config_version"],
        sources=tuple(_source_range(*entry) for entry in header["sources"]),
        config=bodies.get("config"),
        fingerprints=decode_fingerprints(bodies["fingerprints"]) if "fingerprints" in bodies else None,
        rows=decode_rows(bodies["rows"]) if "rows" in bodies else None,
        points=decode_points(bodies["points"]) if "points" in bodies else None,
        indicators=decode_indicators(bodies["indicators"]) if "indicators" in bodies else None,
        backfill=bodies.get("backfill"),
        receipts=decode_receipts(bodies["receipts"]) if "receipts" in bodies else None,
        progress=_progress(orjson.loads(bodies["progress"])) if "progress" in bodies else None,
    )


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    if len(data) < _PREFIX.size:
        raise DecodeError("corrupt_record", f"{len(data)} bytes are too few for a log record")
    magic, version, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise DecodeError("corrupt_record", f"a log record starts with {MAGIC!r}, this one with {magic!r}")
    if version not in (FORMAT - 1, FORMAT):
        raise IncompatibleError(
            f"the log record has format {version}, this version reads {FORMAT - 1} and {FORMAT}; run the version that "
            "wrote it"
        )
    end = _PREFIX.size + length
    try:
        return orjson.loads(data[_PREFIX.size : end]), end
    except orjson.JSONDecodeError as error:
        raise DecodeError("corrupt_record", f"header is not JSON: {error}") from error


def _source_range(
    topic: str, topic_id: str, partition: int, session: str, first_offset: int, next_offset: int
) -> SourceRange:
    return SourceRange(
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        session=session,
        first_offset=first_offset,
        next_offset=next_offset,
    )


def _progress(body: dict[str, Any]) -> Progress:
    return Progress(
        sources=tuple(SourceProgress(**entry) for entry in body["sources"]),
        topic_partitions=body["topic_partitions"],
        lost=tuple(LostRange(**entry) for entry in body["lost"]),
    )
