"""Memory of record batches: what one of them leaves is kept for the next.

Messages of some 100 KiB are freed as fast as they come. glibc gives that memory back to the system each time and asks
for it again, and the system clears every page of it anew: a tenth of all the processor time of an ingest.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

_KEPT_BYTES = 64 << 20
_LARGE_BYTES = 32 << 20
"""The most that glibc takes: buffers below it come from the memory that is kept."""


def keep_freed_memory() -> bool:
    """Lets this process keep up to 64 MiB that it freed; returns whether the C library can do that.

    What the process needs at most does not change, only how much of it is given back in between.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: _LARGE_BYTES, _TRIM_THRESHOLD: _KEPT_BYTES}
    return all(mallopt(setting, size) == 1 for setting, size in settings.items())
