"""What the ingest makes of messages: columns of telemetry, and our own indicators beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stream.core.columns import Receipts, Rows
from stream.core.fingerprints import FINGERPRINT_BYTES
from stream.core.indicators import NO_INDICATORS, Indicators, concat_indicators
from stream.core.otlp import Decoded, concat_decoded
from stream.core.points import Points

_ROW_BYTES = sum(np.dtype(dtype).itemsize for dtype in Rows.DTYPES.values())
_POINT_BYTES = sum(np.dtype(dtype).itemsize for dtype in Points.DTYPES.values()) + 4
_INDICATOR_BYTES = sum(np.dtype(dtype).itemsize for dtype in Indicators.DTYPES.values()) + 8 * len(Indicators.TEXTS)
_PRINT_BYTES = FINGERPRINT_BYTES + 10
_RECEIPT_BYTES = sum(np.dtype(dtype).itemsize for dtype in Receipts.DTYPES.values()) + 8


@dataclass(frozen=True, kw_only=True)
class Columns(Decoded):
    """Decoded messages of all kinds of sources."""

    indicators: Indicators = NO_INDICATORS

    @property
    def items(self) -> int:
        """Rows, points and indicators."""
        return len(self.rows) + len(self.points) + len(self.indicators)

    @cached_property
    def bytes(self) -> int:
        """An upper bound of the bytes of these columns in one log record, but for its fixed headers."""
        rows, points, receipts = self.rows, self.points, self.receipts
        words = [word for name in rows.DICTIONARIES.values() for word in getattr(rows, name)]
        words += [word for name in points.DICTIONARIES.values() for word in getattr(points, name)]
        words += receipts.reasons
        words += [word for name in Indicators.TEXTS for word in getattr(self.indicators, name)]
        blobs = sum(len(digest) for digest in receipts.digests if digest)
        texts = sum(len(detail.encode()) for detail in receipts.details if detail)
        return (
            _ROW_BYTES * len(rows)
            + _POINT_BYTES * len(points)
            + 8 * len(points.buckets)
            + sum(8 * len(bounds) for bounds in points.bounds_sets)
            + len("".join(words).encode())
            + 4 * len(words)
            + _RECEIPT_BYTES * len(receipts)
            + _PRINT_BYTES * len(self.fingerprints)
            + _INDICATOR_BYTES * len(self.indicators)
            + blobs
            + texts
        )


def concat_columns(parts: Sequence[Decoded]) -> Columns:
    """Returns everything in `parts`, in order; ids are not kept."""
    if len(parts) == 1 and isinstance(parts[0], Columns):
        return parts[0]
    decoded = concat_decoded(parts)
    return Columns(
        rows=decoded.rows,
        points=decoded.points,
        receipts=decoded.receipts,
        fingerprints=decoded.fingerprints,
        indicators=concat_indicators([part.indicators for part in parts if isinstance(part, Columns)]),
    )
