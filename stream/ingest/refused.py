"""Receipts of batches that the consumer stepped over.

Every message of such a batch is one item, rejected for the batch's reason; one receipt, and so one dead letter, stands
for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream.core.columns import Receipts, Rows
from stream.core.otlp import Decoded
from stream.core.points import NO_POINTS
from stream.kafka.batches import RefusedBatch


def decoded_refusals(found: Sequence[tuple[int, RefusedBatch]]) -> Decoded:
    """Returns the receipts of refused batches, each given with the index of its source, and no rows."""
    reasons = ("", *sorted({batch.reason.value for _, batch in found}))
    columns: dict[str, list[int]] = {
        "source": [source for source, _ in found],
        "first_offset": [batch.first_offset for _, batch in found],
        "last_offset": [batch.last_offset for _, batch in found],
        "items": [batch.records for _, batch in found],
        "rejected": [batch.records for _, batch in found],
        "reason": [reasons.index(batch.reason.value) for _, batch in found],
    }
    arrays: dict[str, Any] = {name: np.array(columns[name], dtype) for name, dtype in Receipts.DTYPES.items()}
    receipts = Receipts(
        **arrays,
        reasons=reasons,
        digests=tuple(batch.digest for _, batch in found),
        details=tuple(batch.detail for _, batch in found),
    )
    return Decoded(rows=Rows.empty(), points=NO_POINTS, receipts=receipts)
