"""Fingerprints of messages: by them the fold knows a message that its producer has sent twice.

A Collector that got no answer sends the same bytes again, and they stand at another offset, often of another
partition. Every destination that gets rows of a message gets its fingerprint too, so each can tell on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import xxhash

from stream.core.columns import Array, decode_table, encode_table

FINGERPRINT_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """Fingerprints of messages, in the order of the messages.

    Shapes: all have `n` elements. `source` int16 and `offset` int64 say which message; `hi` and `lo` int64 are the
    halves of its fingerprint.
    """

    source: Array
    offset: Array
    hi: Array
    lo: Array

    DTYPES: ClassVar[Mapping[str, str]] = {"source": "int16", "offset": "int64", "hi": "int64", "lo": "int64"}

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def empty(cls) -> Self:
        """Returns no fingerprints."""
        return cls(**{name: np.empty(0, dtype) for name, dtype in cls.DTYPES.items()})

    def take(self, index: Array) -> Self:
        """Returns those at `index` (an integer or boolean array)."""
        return type(self)(**{name: getattr(self, name)[index] for name in self.DTYPES})

    def words(self, topics: Sequence[str]) -> list[bytes]:
        """Returns each fingerprint as 16 bytes, those of equal content in different topics different.

        Args:
            topics: The topic of each source, by its index.
        """
        marks = [xxhash.xxh3_128_digest(topic.encode()) for topic in topics]
        mark = np.frombuffer(b"".join(marks), ">i8").reshape(-1, 2).astype("int64")[self.source]
        data = (np.stack([self.hi, self.lo], axis=1) ^ mark).astype(">i8").tobytes()
        return [data[at : at + FINGERPRINT_BYTES] for at in range(0, len(data), FINGERPRINT_BYTES)]


def fingerprints(source: Array, offset: Array, contents: Sequence[bytes]) -> Fingerprints:
    """Returns the fingerprints of messages.

    XXH3-128 of the content. Not a cryptographic hash: who may write to a topic may also hide a message of it. For
    others a wrong match among the 10^9 messages of a busy ten minutes has a chance below 10^-20.

    Args:
        source: int16[n].
        offset: int64[n].
        contents: What identifies each message.

    Source: Y. Collet, "xxHash fast digest algorithm", XXH3 128 bits.
    """
    digests = b"".join([xxhash.xxh3_128_digest(content) for content in contents])
    pairs = np.frombuffer(digests, ">i8").reshape(-1, 2).astype("int64")
    return Fingerprints(source=source, offset=offset, hi=pairs[:, 0], lo=pairs[:, 1])


NO_FINGERPRINTS = Fingerprints.empty()


def concat_fingerprints(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Returns all fingerprints of `parts`, in order."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return NO_FINGERPRINTS
    return Fingerprints(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in Fingerprints.DTYPES})


def encode_fingerprints(prints: Fingerprints) -> bytes:
    """Returns the fingerprints as an Arrow IPC stream."""
    return encode_table({name: pa.array(getattr(prints, name)) for name in Fingerprints.DTYPES})


def decode_fingerprints(data: bytes | memoryview) -> Fingerprints:
    """Returns the fingerprints of an Arrow IPC stream written by `encode_fingerprints`.

    Raises:
        DecodeError: When the bytes are no such stream.
    """
    batch = decode_table(data, _SCHEMA)
    columns: dict[str, Any] = {name: batch.column(name).to_numpy() for name in Fingerprints.DTYPES}
    return Fingerprints(**columns)


_SCHEMA = pa.schema([(name, pa.type_for_alias(dtype)) for name, dtype in Fingerprints.DTYPES.items()])

assert {f.name for f in fields(Fingerprints)} == set(Fingerprints.DTYPES)
