"""Messages that their producer sent twice: the fingerprints of those applied in the last minutes of `now`."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from stream.core.fingerprints import FINGERPRINT_BYTES

FINGERPRINTS_MAX = 65_536
"""Remembered in a partition; beyond it the oldest are forgotten, and a late repetition of these would count."""


class Duplicates:
    """What is remembered, by the minute of `now` in which it was applied."""

    def __init__(self) -> None:
        self._minute_of: dict[bytes, int] = {}
        self._minutes: dict[int, deque[bytes]] = {}  # the oldest first
        self.changed: set[int] = set()
        """Minutes whose fingerprints are not as they were at the last checkpoint."""

    def __len__(self) -> int:
        return len(self._minute_of)

    def note(self, words: Sequence[bytes], minute: int) -> list[bool]:
        """Returns which of these fingerprints were there before, and remembers the others."""
        repeated = []
        for word in words:
            known = word in self._minute_of
            repeated.append(known)
            if not known:
                self._minute_of[word] = minute
                self._minutes.setdefault(minute, deque()).append(word)
                self.changed.add(minute)
        self._forget(len(self._minute_of) - FINGERPRINTS_MAX)
        return repeated

    def forget(self, words: Collection[bytes]) -> None:
        """Forgets those of messages of which nothing was counted."""
        minutes = {self._minute_of.pop(word) for word in words if word in self._minute_of}
        for minute in minutes:
            kept = deque(word for word in self._minutes[minute] if word in self._minute_of)
            if kept:
                self._minutes[minute] = kept
            else:
                del self._minutes[minute]
        self.changed |= minutes

    def forget_before(self, minute: int) -> None:
        """Forgets the fingerprints of earlier minutes."""
        while self._minutes and (oldest := next(iter(self._minutes))) < minute:
            self._forget(len(self._minutes[oldest]))

    def _forget(self, count: int) -> None:
        """Forgets the oldest."""
        while count > 0:
            oldest = next(iter(self._minutes))
            words = self._minutes[oldest]
            for _ in range(min(count, len(words))):
                del self._minute_of[words.popleft()]
                count -= 1
            if not words:
                del self._minutes[oldest]
            self.changed.add(oldest)

    def names(self) -> list[int]:
        """Returns the names of the chunks that hold anything, in order: their minutes."""
        return list(self._minutes)

    def dump(self, minute: int) -> bytes:
        """Returns the fingerprints of a minute, one after the other; nothing where it holds none."""
        return b"".join(self._minutes.get(minute, ()))

    def load(self, minute: int, body: bytes) -> None:
        """Puts back what `dump` returned; minutes come in order."""
        assert len(body) % FINGERPRINT_BYTES == 0, f"{len(body)} bytes are no whole number of fingerprints"
        words = [body[at : at + FINGERPRINT_BYTES] for at in range(0, len(body), FINGERPRINT_BYTES)]
        self._minutes[minute] = deque(words)
        self._minute_of.update(dict.fromkeys(words, minute))
