"""Indicators of closed minutes, read back from `qma.sli`: what composites and expected counts are made of.

The latest revision of a minute of an objective holds, so it does not matter how often one is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from stream.core.columns import WORDS, Array, decode_table, encode_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicators:
    """Indicators of objectives, one per event of `qma.sli`.

    Shapes: all have `n` elements. `source` int16 and `offset` int64 say which message. `service` and `objective` are
    texts. `minute` int64 is the closed minute, `revision` int64 which of its events. `events` int64 are those received,
    `weight` and `weight_bad` int64 all of them and the bad ones, weighted, in 2^-16; of points that are ratios
    themselves, and may be bad in part, in 2^-30. A counter of bad ones may tell more of them than all. `gap` bool: the
    minute was not read whole. `counts` bool: this copy is the one that the ledger counts; each message has exactly one.
    """

    source: Array
    offset: Array
    service: Sequence[str]
    objective: Sequence[str]
    minute: Array
    revision: Array
    events: Array
    weight: Array
    weight_bad: Array
    gap: Array
    counts: Array

    DTYPES: ClassVar[Mapping[str, str]] = {
        "source": "int16",
        "offset": "int64",
        "minute": "int64",
        "revision": "int64",
        "events": "int64",
        "weight": "int64",
        "weight_bad": "int64",
        "gap": "bool",
        "counts": "bool",
    }
    TEXTS: ClassVar[tuple[str, ...]] = ("service", "objective")

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        """Returns the columns of rows that have every field."""
        columns: dict[str, Any] = {
            name: np.array([row[name] for row in rows], dtype) for name, dtype in cls.DTYPES.items()
        }
        columns |= {name: [row[name] for row in rows] for name in cls.TEXTS}
        return cls(**columns)

    def take(self, index: Array) -> Self:
        """Returns the ones at `index`."""
        chosen: dict[str, Any] = {name: getattr(self, name)[index] for name in self.DTYPES}
        chosen |= {name: [getattr(self, name)[at] for at in index.tolist()] for name in self.TEXTS}
        return type(self)(**chosen)


NO_INDICATORS = Indicators.of(())


def concat_indicators(parts: Sequence[Indicators]) -> Indicators:
    """Returns all indicators of `parts`, in order."""
    if len(parts) <= 1:
        return parts[0] if parts else NO_INDICATORS
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Indicators.DTYPES
    }
    columns |= {name: [text for part in parts for text in getattr(part, name)] for name in Indicators.TEXTS}
    return Indicators(**columns)


def encode_indicators(indicators: Indicators) -> bytes:
    """Returns the indicators as an Arrow IPC stream."""
    numbers = {name: pa.array(getattr(indicators, name)) for name in Indicators.DTYPES}
    texts = {name: pa.array(getattr(indicators, name), pa.string()).cast(WORDS) for name in Indicators.TEXTS}
    return encode_table({**numbers, **texts})


def decode_indicators(data: bytes | memoryview) -> Indicators:
    """Returns the indicators of an Arrow IPC stream written by `encode_indicators`.

    Raises:
        DecodeError: When the bytes are no such stream.
    """
    batch = decode_table(data, _SCHEMA)
    columns: dict[str, Any] = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in Indicators.DTYPES}
    texts: dict[str, Any] = {name: batch.column(name).to_pylist() for name in Indicators.TEXTS}
    return Indicators(**columns, **texts)


_SCHEMA = pa.schema(
    [
        *((name, pa.type_for_alias(dtype)) for name, dtype in Indicators.DTYPES.items()),
        *((name, WORDS) for name in Indicators.TEXTS),
    ]
)

assert {f.name for f in fields(Indicators)} == {*Indicators.DTYPES, *Indicators.TEXTS}
