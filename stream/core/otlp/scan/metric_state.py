"""What the kernels of the metrics decoder share: one array of words, addressed by the names below, and the records that
they write.
"""

from __future__ import annotations

import numpy as np

from stream.core.columns import RejectReason
from stream.core.points import Points

RECORD = np.dtype(
    [
        ("message", "int32"),
        ("bucket_count", "int32"),
        *((name, dtype) for name, dtype in Points.DTYPES.items() if name not in ("source", "offset")),
    ]
)
"""A point as kernels write it: the columns of `Points`, with the index of its message in place of source and offset."""

(
    AT_MESSAGE,
    AT_BUCKET_COUNT,
    AT_SERVICE,
    AT_VERSION,
    AT_NAME,
    AT_UNIT,
    AT_TYPE,
    AT_TEMPORALITY,
    AT_KIND,
    AT_STATUS,
    AT_CODE,
    AT_ERROR_TYPE,
    AT_ATTRIBUTES,
    AT_FLAGS,
    AT_START_NS,
    AT_TIME_NS,
    AT_STREAM_HI,
    AT_STREAM_LO,
    AT_VALUE,
    AT_VALUE_INT,
    AT_COUNT,
    AT_SCALE,
    AT_ZERO_COUNT,
    AT_ZERO_THRESHOLD,
    AT_NEGATIVE_COUNT,
    AT_BUCKET_OFFSET,
    AT_BOUNDS,
) = (RECORD.fields[name][1] for name in RECORD.names)  # type: ignore[index, union-attr]
"""Where in a record each column lies, in bytes."""

RECORD_BYTES = RECORD.itemsize

REASONS = (
    RejectReason.UNSUPPORTED,
    RejectReason.TOO_MANY_ATTRIBUTES,
    RejectReason.VALUE_TOO_LONG,
    RejectReason.MISSING_FIELD,
    RejectReason.TOO_MANY_BUCKETS,
    RejectReason.OUT_OF_RANGE,
    RejectReason.MALFORMED,
)
"""Why a point is refused. The number of a reason is its place here plus 1; 0 is for a point that is not refused."""

UNSUPPORTED, TOO_MANY_ATTRIBUTES, VALUE_TOO_LONG, MISSING_FIELD, TOO_MANY_BUCKETS, OUT_OF_RANGE, CONTRADICTORY = range(
    1, 8
)

ITEMS_OF_MESSAGE, OUTCOME, TALLY_WORDS = 0, 8, 9
"""Words of a message's tally: its items, its items refused for each of the reasons 1-7, its outcome."""

READ, TOO_MANY_ITEMS, LEFT_TO_PLAIN, TOO_LARGE = 0, 1, 2, 3
"""Outcomes of a message. `LEFT_TO_PLAIN`: it cannot be read, has no time or is written as no encoder does."""

OUT_OF_ROOM = -6
"""A kernel's answer when what the word `WHAT_IS_FULL` names has to grow; the message is read again."""

TOO_MANY, TOO_LONG = 1, 2
"""Faults of a resource, scope or metric that cost all its points: attributes, texts."""

FOUND_BYTES = 32
"""Bytes of a wanted attribute as found: the number of the place that it was found in, what it is, its two words."""

LISTED_BYTES = 32
"""Bytes of a key of the allow-list: its slots by its name and its older name in the point's table, then in the
resource's; -1 for no older name."""

KEPT_BYTES = 16
"""Bytes of a value of the allow-list: what it is, and itself: a text as its index."""


(
    # Where things are.
    DATA,
    OFFSETS,
    TALLIES,
    RECORDS,
    BUCKETS,
    # Intern tables.
    NAMES,
    UNITS,
    TEXTS,
    SERVICES,
    VERSIONS,
    ERROR_TYPES,
    STRINGS,
    SETS,
    BOUNDS,
    # Key tables.
    POINT_KEYS,
    RESOURCE_KEYS,
    KIND_WORDS,
    STATUS_WORDS,
    GRPC_WORDS,
    # Scratch memory.
    POINT_FOUND,
    RESOURCE_FOUND,
    LISTED,
    RESOURCE_SET,
    POINT_SET,
    BOUNDS_SCRATCH,
    # Limits and sizes.
    MESSAGE_BYTES_MAX,
    ITEMS_MAX,
    ATTRIBUTES_MAX,
    VALUE_BYTES_MAX,
    EXPLICIT_MAX,
    EXPONENTIAL_MAX,
    RECORDS_MAX,
    BUCKETS_MAX,
    LISTED_KEYS,
    # How far the kernel is.
    RECORDS_USED,
    BUCKETS_USED,
    WHAT_IS_FULL,
    PLACES,
    # The message.
    MESSAGE,
    TALLY,
    TIMED,
    # Its resource.
    SERVICE,
    VERSION,
    RESOURCE_HIGH,
    RESOURCE_LOW,
    RESOURCE_FAULTS,
    RESOURCE_INVALID,
    # Its scope.
    SCOPE_NAME,
    SCOPE_NAME_SIZE,
    SCOPE_VERSION,
    SCOPE_VERSION_SIZE,
    SCOPE_HIGH,
    SCOPE_LOW,
    SCOPE_FAULTS,
    # Its metric.
    NAME,
    UNIT,
    TYPE,
    TEMPORALITY,
    MONOTONIC,
    KIND,
    AROUND_HIGH,
    AROUND_LOW,
    AROUND_FAULTS,
    AROUND_INVALID,
    # Its point.
    POINT_TOO_LONG,
    POINT_INVALID,
    LAST_BOUNDS,
    LAST_BOUNDS_SIZE,
    LAST_BOUNDS_INDEX,
) = range(0, 552, 8)
"""Where in the state each word lies, in bytes."""

WORDS = 69

SPAN_KIND_SLOT, STATUS_CODE_SLOT, ERROR_TYPE_SLOT = range(3)
RPC_CODE_SLOTS, HTTP_CODE_SLOTS = (3, 4, 5), (6, 7)
"""Slots of the keys that are always wanted from a point."""

ENVIRONMENT_SLOTS = (0, 1)
NAMESPACE_SLOT, NAME_SLOT, VERSION_SLOT = range(2, 5)
"""Slots of the keys that are always wanted from a resource."""
