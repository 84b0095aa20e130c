"""What the ingest makes of messages: columns of telemetry, and our own indicators beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream.core.indicators import NO_INDICATORS, Indicators, concat_indicators
from stream.core.otlp import Decoded, concat_decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns(Decoded):
    """Decoded messages of all kinds of sources."""

    indicators: Indicators = NO_INDICATORS

    @property
    def items(self) -> int:
        """Rows, points and indicators."""
        return len(self.rows) + len(self.points) + len(self.indicators)


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
