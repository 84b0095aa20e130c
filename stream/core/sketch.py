"""Latency sketches: t-digests per service and minute, for display only.

A t-digest has no error bound and its merge depends on order, so no objective is decided by one. Values are buffered
and digested `BUFFER_MAX` at a time: a minute of up to as many values gives the same digest in whatever order
they came; beyond that the digests of full buffers are merged in the order of the log.

Source: T. Dunning, O. Ertl, "Computing extremely accurate quantiles using t-digests", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from fastdigest import TDigest

from stream.core.columns import Array
from stream.core.grouping import groups

BUFFER_MAX = 8192
WAITING_MAX = 1 << 16
"""So many durations wait to be sorted out: dear for each service and minute that they are of, whatever their number."""

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
            held = np.concatenate(self.values)
            full = self.size // BUFFER_MAX * BUFFER_MAX
            for at in range(0, full, BUFFER_MAX):
                self._merge(held[at : at + BUFFER_MAX])
            self.values, self.size = [held[full:].copy()], self.size - full

    def digested(self) -> TDigest | None:
        if self.size:
            self._merge(np.concatenate(self.values) if len(self.values) > 1 else self.values[0])
        return self.digest

    def _merge(self, values: Array) -> None:
        # It sorts them too, but slower than numpy; those in order it passes over.
        digest = TDigest.from_values(np.sort(values).tolist(), max_centroids=CENTROIDS_MAX)
        self.digest = digest if self.digest is None else self.digest.merge(digest)


class Sketches:
    """The sketches of one service's minutes that are still open. Values are seconds."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}

    def add(self, minute: int, durations_s: Array) -> None:
        """Adds finite durations in seconds to a minute that is not closed."""
        filling = self._open.get(minute)
        if filling is None:
            filling = self._open[minute] = _Open()
        filling.add(durations_s)

    def close(self, minute: int) -> tuple[TDigest | None, list[int]]:
        """Closes a minute. Returns its digest, None where it had no values, and the minutes that are no longer open."""
        closed = sorted(m for m in self._open if m <= minute)
        digest = None
        for old in closed:
            filling = self._open.pop(old)
            digest = filling.digested() if old == minute else None
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


class Durations:
    """Durations as records bring them, which wait for more: then those of many records are sorted out at once."""

    def __init__(self) -> None:
        self._held: list[tuple[Array, Array, Array]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, owner: Array, minute: Array, durations_s: Array) -> None:
        """Takes in finite durations in seconds, each with the number of its owner and its minute, all [n]."""
        self._held.append((owner, minute, durations_s))
        self._size += len(owner)

    def take(self) -> Iterator[tuple[int, int, Array]]:
        """Yields all that wait as (owner, minute, durations in seconds), which are in the order in which they came."""
        if not self._size:
            return
        owner, minute, durations_s = map(np.concatenate, zip(*self._held, strict=True))
        self._held, self._size = [], 0
        group, size = groups(owner, minute)
        order = np.argsort(
            group.astype(np.uint16) if size <= 1 << 16 else group, kind="stable"
        )  # a radix sort of these
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        first, durations_s = order[starts], durations_s[order]
        bounds = [*starts.tolist(), len(order)]
        named = zip(owner[first].tolist(), minute[first].tolist(), bounds[:-1], bounds[1:], strict=True)
        for number, at, start, end in named:
            yield number, at, durations_s[start:end].copy()  # a part alone must not keep the whole


def quantiles(digest: TDigest | None) -> dict[str, float] | None:
    """Returns {p50_s, p95_s, p99_s} of a digest; None where there is none."""
    if digest is None:
        return None
    return {f"p{round(q * 100)}_s": float(digest.quantile(q)) for q in QUANTILES}


def wire(digest: TDigest) -> list[dict[str, float]]:
    """Returns the centroids as the `tdigest` package reads them with `update_centroids_from_list`."""
    return [{"m": mean, "c": count} for mean, count in digest.centroids]
