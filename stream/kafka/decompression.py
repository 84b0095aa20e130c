"""Decompression of record batches that stops at a limit, in place of aiokafka's, which has none.

A batch of 16 KiB can hold 512 MiB: what brokers and fetch requests bound is the compressed size. Here a batch is
decompressed into a buffer of the limit's size, and one that does not fit is refused; sizes that a header declares
are believed only where they refuse. `limited_to` sets the limit for what runs in it; `apply` puts the decoders in.
"""

from __future__ import annotations

import contextlib
import importlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import aiokafka
import cramjam
import numpy as np
from aiokafka.errors import CorruptRecordException

from stream.core.columns import Array
from stream.core.errors import IncompatibleError

__all__ = [
    "BATCH_BYTES_MAX",
    "BatchTooLarge",
    "MalformedBatch",
    "apply",
    "gzip_decode",
    "limited_to",
    "lz4_decode",
    "snappy_decode",
    "zstd_decode",
]

BATCH_BYTES_MAX = 16 << 20
"""Default limit. Our own batches hold one record of at most 8 MiB, or less than 1 MiB of smaller ones."""

Payload = bytes | bytearray | memoryview

_LIMIT: ContextVar[int] = ContextVar("batch_bytes_max", default=BATCH_BYTES_MAX)
_SCRATCH = threading.local()

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_XERIAL_COMPATIBLE = 1
_GZIP_WINDOW = 31  # zlib's notation for: a gzip header, any window


class MalformedBatch(CorruptRecordException):  # type: ignore[misc]
    """The bytes of a batch are not what its codec writes."""


class BatchTooLarge(CorruptRecordException):  # type: ignore[misc]
    """A batch decompresses to more than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the batch decompresses to more than {limit} bytes")
        self.limit = limit


@contextlib.contextmanager
def limited_to(limit: int) -> Iterator[None]:
    """Limits what one batch may decompress to, in bytes, for what this thread or task does in the block."""
    assert limit > 0, limit
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def gzip_decode(payload: Payload) -> bytes:
    """Returns the members of a gzip file, one behind the other; zeros behind the last are padding.

    Raises:
        BatchTooLarge: They exceed the limit.
        MalformedBatch: The file is damaged, cut off or followed by something else.
    """
    limit = _LIMIT.get()
    rest, size, parts = bytes(payload), 0, []
    try:
        while rest:
            member = zlib.decompressobj(_GZIP_WINDOW)
            # One byte more than is left tells a member that fills the limit from one that exceeds it.
            parts.append(member.decompress(rest, limit - size + 1))
            size += len(parts[-1])
            if size > limit:
                raise BatchTooLarge(limit)
            if not member.eof:
                raise MalformedBatch("gzip: the file is cut off")
            rest = member.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise MalformedBatch(f"gzip: {error}") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def lz4_decode(payload: Payload) -> bytes:
    """Returns what LZ4 frames hold, one behind the other.

    Raises:
        BatchTooLarge: They exceed the limit.
        MalformedBatch: A frame is damaged, cut off or followed by something else.
    """
    return _into_scratch("lz4", cramjam.lz4.decompress_into, payload)


def zstd_decode(payload: Payload) -> bytes:
    """Returns what Zstandard frames hold, one behind the other.

    Raises:
        BatchTooLarge: They exceed the limit.
        MalformedBatch: A frame is damaged, cut off or followed by something else.
    """
    return _into_scratch("zstd", cramjam.zstd.decompress_into, payload)


def snappy_decode(payload: Payload) -> bytes:
    """Returns what a raw snappy block holds, or the blocks in xerial's framing, which Java writes.

    Raises:
        BatchTooLarge: It exceeds the limit, or says so.
        MalformedBatch: It is damaged or cut off.
    """
    data = memoryview(payload)
    if not data.nbytes:
        return b""
    limit = _LIMIT.get()
    scratch, size = _scratch(limit).data, 0
    try:
        # No raw block begins like this: it would say 10,626 bytes and copy from before its beginning.
        is_framed = data[: len(_XERIAL_MAGIC)] == _XERIAL_MAGIC
        for block in _xerial_blocks(data) if is_framed else (data,):
            # What is written beyond or below the declared size is an error of the block.
            if cramjam.snappy.decompress_raw_len(block) > limit - size:
                raise BatchTooLarge(limit)
            size += cramjam.snappy.decompress_raw_into(block, scratch[size:])
    except (cramjam.DecompressionError, struct.error) as error:
        raise MalformedBatch(f"snappy: {error}") from error
    return scratch[:size].tobytes()


def _xerial_blocks(data: memoryview) -> Iterator[memoryview]:
    """Yields the blocks of xerial's streams, which may follow each other, as they are compressed."""
    at = 0
    while at < data.nbytes:
        if data[at : at + len(_XERIAL_MAGIC)] == _XERIAL_MAGIC:
            _version, compatible = struct.unpack_from(">ii", data, at + len(_XERIAL_MAGIC))
            if compatible > _XERIAL_COMPATIBLE:
                raise MalformedBatch(f"snappy: xerial framing {compatible} is unknown")
            at += _XERIAL_HEADER_BYTES
            continue
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if not 0 <= size <= data.nbytes - at:
            raise MalformedBatch("snappy: a block is cut off")
        yield data[at : at + size]
        at += size


def _into_scratch(codec: str, decompress_into: Callable[[Any, Any], int], payload: Payload) -> bytes:
    if not memoryview(payload).nbytes:
        return b""
    limit = _LIMIT.get()
    scratch = _scratch(limit)
    try:
        size = decompress_into(payload, scratch)
    except cramjam.DecompressionError as error:
        if str(error) == _FULL:
            raise BatchTooLarge(limit) from None
        raise MalformedBatch(f"{codec}: {error}") from error
    return scratch[:size].tobytes()


def _scratch(size: int) -> Array:
    """Returns this thread's buffer; the system gives it memory only as far as it was ever written to."""
    buffer: Array | None = getattr(_SCRATCH, "buffer", None)
    if buffer is None or len(buffer) != size:
        buffer = _SCRATCH.buffer = np.empty(size, "uint8")
    return buffer


def _full_message() -> str:
    """Returns what cramjam says when the output does not fit; it has no error of its own for that."""
    said = set()
    for codec in (cramjam.zstd, cramjam.lz4):
        try:
            codec.decompress_into(codec.compress(b"two"), np.empty(1, "uint8"))
        except cramjam.DecompressionError as error:
            said.add(str(error))
    if len(said) != 1:
        raise IncompatibleError(
            f"cramjam {cramjam.__version__} differs from 2.14, for which stream.kafka.decompression was written: it "
            f"says {sorted(said)} of output that does not fit. Install the cramjam of requirements.lock"
        )
    return said.pop()


_FULL = _full_message()

_DECODERS: Mapping[str, Callable[[Payload], bytes]] = {
    "gzip_decode": gzip_decode,
    "snappy_decode": snappy_decode,
    "lz4_decode": lz4_decode,
    "zstd_decode": zstd_decode,
}
_BEFORE_ZSTD = tuple(name for name in _DECODERS if name != "zstd_decode")
_USED_BY: Mapping[str, tuple[str, ...]] = {
    "aiokafka.record.default_records": tuple(_DECODERS),
    "aiokafka.record._crecords.default_records": tuple(_DECODERS),
    "aiokafka.record.legacy_records": _BEFORE_ZSTD,
    "aiokafka.record._crecords.legacy_records": _BEFORE_ZSTD,
}


def apply() -> None:
    """Puts the decoders of this module in the place of aiokafka's, for every client of this process.

    Raises:
        IncompatibleError: The installed aiokafka has no decoders of these names where they are expected.
    """
    # aiokafka 0.14. Its decoders return everything that a batch holds: 16 KiB became 512 MiB, which a worker does not
    # survive. They are looked up in the modules that read batches, by name, at each call.
    modules = {name: _module(name) for name in _USED_BY}
    missing = [
        f"{name}.{decoder}"
        for name, decoders in _USED_BY.items()
        if (module := modules[name]) is not None
        for decoder in decoders
        if not callable(getattr(module, decoder, None))
    ]
    if missing:
        raise IncompatibleError(
            f"aiokafka {aiokafka.__version__} differs from 0.14, for which stream.kafka.decompression was written; it "
            f"has no {', '.join(missing)}. Install the aiokafka of requirements.lock, or look where the new version "
            "decompresses"
        )
    for name, decoders in _USED_BY.items():
        for decoder in decoders:
            if (module := modules[name]) is not None:
                setattr(module, decoder, _DECODERS[decoder])


def _module(name: str) -> ModuleType | None:
    """Returns the module, or None where aiokafka was installed without its compiled extensions."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if "._crecords" in name:
            return None
        raise
