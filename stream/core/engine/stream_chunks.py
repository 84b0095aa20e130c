"""Metric streams in a checkpoint: a chunk for some of the streams of one service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from stream.core.columns import decode_table, encode_table
from stream.core.streams import StreamMemory

_SCHEMA = pa.schema(
    [
        *((name, pa.from_numpy_dtype(dtype)) for name, dtype in StreamMemory.COLUMNS.items()),
        ("words", pa.list_(pa.int64())),
    ]
)


def stream_key(number: int, service: str) -> bytes:
    """Returns the key of a chunk of streams."""
    return f"streams/{number}/{service}".encode()


def encode_streams(memory: StreamMemory, services: Mapping[int, str]) -> dict[bytes, bytes]:
    """Returns the keys and bodies of chunks of streams, given by number and service."""
    bodies: dict[bytes, bytes] = {}
    if not services:
        return bodies
    for number, (columns, words, length) in memory.chunks(services).items():
        arrays: dict[str, pa.Array] = {name: pa.array(column) for name, column in columns.items()}
        first = np.concatenate([np.zeros(1, np.int32), np.cumsum(length, dtype=np.int32)])
        arrays["words"] = pa.ListArray.from_arrays(pa.array(first), pa.array(words))
        bodies[stream_key(number, services[number])] = encode_table(arrays)
    return bodies


def restore_streams(memory: StreamMemory, key: bytes, body: memoryview) -> None:
    """Takes back a chunk of streams."""
    _, number, service = key.decode().split("/", 2)
    batch = decode_table(body, _SCHEMA)
    columns: dict[str, Any] = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in StreamMemory.COLUMNS}
    lists = batch.column("words")
    first = lists.offsets.to_numpy().astype(np.int64)
    words = lists.values.to_numpy()[first[0] : first[-1]]
    memory.load(int(number), service, columns, words, np.diff(first))
