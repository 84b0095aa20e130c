"""Latency sketches: t-digests per service and minute, for display only.

A t-digest has no error bound and its merge depends on order, so no objective is decided by one. Values are buffered
and digested sorted, so a minute of up to `BUFFER_MAX` values gives the same digest in whatever order they came; beyond
that the digests of full buffers are merged in the order of the log.

Source: T. Dunning, O. Ertl, "Computing extremely accurate quantiles using t-digests", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from fastdigest import TDigest

from stream.core.columns import Array

BUFFER_MAX = 8192
CENTROIDS_MAX = 100
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(slots=True)
class _Open:
    """A minute that is still filling."""

    values: list[Array] = field(default_factory=list)
    size: int = 0
    digest: TDigest | None = None

    def add(self, values: Array) -> None:
        self.values.append(values)
        self.size += len(values)
        if self.size >= BUFFER_MAX:
            self.fold()

    def fold(self) -> None:
        if not self.size:
            return
        values = np.sort(np.concatenate(self.values))
        digest = TDigest.from_values(values.tolist(), max_centroids=CENTROIDS_MAX)
        self.digest = digest if self.digest is None else self.digest.merge(digest)
        self.values, self.size = [], 0


class Sketches:
    """The sketches of one service's minutes that are still open. Values are seconds."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}

    def add(self, minute: int, durations_s: Array) -> None:
        """Adds finite durations in seconds to a minute that is not closed."""
        self._open.setdefault(minute, _Open()).add(durations_s)

    def close(self, minute: int) -> tuple[TDigest | None, list[int]]:
        """Closes a minute. Returns its digest, None where it had no values, and the minutes that are no longer open."""
        closed = sorted(m for m in self._open if m <= minute)
        digest = None
        for old in closed:
            filling = self._open.pop(old)
            filling.fold()
            digest = filling.digest if old == minute else None
        return digest, closed

    def minutes(self) -> list[int]:
        """Returns the open minutes in order."""
        return sorted(self._open)

    def dump(self, minute: int) -> bytes:
        """Returns an open minute: a JSON line with the digest of full buffers, then the buffered float64 values."""
        filling = self._open[minute]
        head = orjson.dumps(filling.digest.to_dict() if filling.digest is not None else None)
        values = np.concatenate(filling.values) if filling.values else np.empty(0)
        return head + b"\n" + values.astype("<f8").tobytes()

    def load(self, minute: int, data: bytes) -> None:
        """Takes back an open minute that `dump` wrote."""
        head, _, values = data.partition(b"\n")
        body: dict[str, Any] | None = orjson.loads(head)
        buffered = np.frombuffer(values, "<f8")
        digest = TDigest.from_dict(body) if body is not None else None
        self._open[minute] = _Open([buffered] if len(buffered) else [], len(buffered), digest)


def quantiles(digest: TDigest | None) -> dict[str, float] | None:
    """Returns {p50_s, p95_s, p99_s} of a digest; None where there is none."""
    if digest is None:
        return None
    return {f"p{round(q * 100)}_s": float(digest.quantile(q)) for q in QUANTILES}


def wire(digest: TDigest) -> list[dict[str, float]]:
    """Returns the centroids as the `tdigest` package reads them with `update_centroids_from_list`."""
    return [{"m": mean, "c": count} for mean, count in digest.centroids]
