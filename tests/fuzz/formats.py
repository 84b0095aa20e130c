"""The formats that are fuzzed, and the batches of mutated messages of each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from stream.core.columns import Signal
from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.decoders import DECODERS, Decode, Encoding
from tests.fuzz import corpus
from tests.fuzz.guard import FILLS, Place
from tests.fuzz.mutators import Seed, mutated, seed_of_json, seed_of_protobuf, truncated

MESSAGES = 2048
"""Of a batch of small ones."""

_LARGE = 6
_CUT_MAX = 700
_FRESH = 24

_LISTED = (
    *("cohort", "deployment.environment.name", "feature_flag.result.variant", "http.request.method", "http.route"),
    *("k", "region", "service.name", "team", "x"),
)
READINGS = (
    Reading(attributes=_LISTED, ids=True),
    Reading(),
    Reading(
        attributes=("http.route", "k", "x"),
        limits=Limits(
            message_bytes=1000, items=2, attributes=3, value_bytes=9, depth=6, explicit_buckets=3, exponential_buckets=2
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Messages that one call decodes.

    Args:
        messages: The messages.
        reading: What is read of them.
        place: Where they lie.
    """

    messages: Messages
    reading: Reading
    place: Place


@dataclass(frozen=True, kw_only=True)
class Format:
    """One signal in one encoding."""

    signal: Signal
    encoding: Encoding
    plain: Decode
    compiled: Decode

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return f"{self.signal.name.lower()}.{self.encoding}"

    @cached_property
    def seeds(self) -> Sequence[Seed]:
        """Small messages, with what mutations must know of them."""
        values = corpus.small(self.signal, self.encoding)
        receipts = self.plain(Messages.of(values), Reading()).receipts
        refused = receipts.first_offset[receipts.rejected == receipts.items].tolist()
        # What is refused before it is changed mostly is so afterwards: a few of it do.
        left_out = {at for number, at in enumerate(refused) if number % 8}
        return [self.seed_of(value) for at, value in enumerate(values) if at not in left_out]

    @cached_property
    def large(self) -> Sequence[Seed]:
        """Whole requests; bytes of them are changed, and nothing that would ask for their structure."""
        return [Seed(value) for value in corpus.whole(self.signal, self.encoding) if len(value) > corpus.SMALL_BYTES]

    @cached_property
    def names(self) -> Sequence[bytes]:
        """Names of members, with their quotes; () for protobuf."""
        return () if self.encoding == Encoding.OTLP_PROTO else corpus.names(self.signal, self.encoding)

    def seed_of(self, value: bytes) -> Seed:
        """Returns a message with what mutations must know of it."""
        if self.encoding == Encoding.OTLP_PROTO:
            return seed_of_protobuf(value, corpus.REQUESTS[self.signal].DESCRIPTOR)
        return seed_of_json(value)

    def batch(self, seed: int, number: int) -> Batch:
        """Returns the batch of this number: always the same."""
        stream = (seed, int(self.signal), [*Encoding].index(self.encoding), number)
        chance = np.random.default_rng(stream)
        values = self._values(chance, number)
        return Batch(
            messages=spread(values, chance),
            reading=READINGS[int(chance.choice(len(READINGS), p=(0.6, 0.27, 0.13)))],
            place=Place(at_the_end=chance.random() < 0.7, fill=FILLS[chance.integers(len(FILLS))]),
        )

    def _values(self, chance: np.random.Generator, number: int) -> list[bytes | None]:
        if self.large and number % 64 == 40:
            return [*mutated(chance, self.large, _LARGE, self.names)]
        if number % 16 == 3:
            return [*self._truncated(chance, number // 16)]
        made = corpus.fresh(self.signal, self.encoding, random.Random(int(chance.integers(1 << 62))), _FRESH)
        seeds = [*self.seeds, *map(self.seed_of, filter(None, made))]
        values: list[bytes | None] = [*mutated(chance, seeds, MESSAGES, self.names)]
        values[:: MESSAGES // 3] = [None] * len(values[:: MESSAGES // 3])
        return values

    def _truncated(self, chance: np.random.Generator, turn: int) -> list[bytes]:
        """Returns messages cut off at each byte: one message of the corpus after the other, in odd turns mutated."""
        values: list[bytes] = []
        for at in range(2):
            seed = self.seeds[(2 * (turn // 2) + at) % len(self.seeds)]
            value = mutated(chance, [seed], 1, self.names)[0] if turn % 2 else seed.value
            places: Sequence[int] = range(len(value) + 1)
            if len(places) > _CUT_MAX:
                places = sorted(chance.choice(len(places), _CUT_MAX, replace=False).tolist())
            values += truncated(value, places)
        return values


def spread(values: Sequence[bytes | None], chance: np.random.Generator) -> Messages:
    """Returns messages at rising offsets: consecutive or with gaps, of one source or of two in turn."""
    count = len(values)
    stride = int(chance.integers(1, 3))
    source = (np.arange(count) // 7) % 2 if chance.random() < 0.3 else np.zeros(count)
    offset = int(chance.integers(1 << 40)) + stride * np.arange(count, dtype="int64")
    return Messages(source=source.astype("int16"), offset=offset, values=values)


@lru_cache
def formats() -> Mapping[str, Format]:
    """Returns every format by its name."""
    every = (
        Format(signal=signal, encoding=encoding, plain=decoder.load_plain(), compiled=decoder.load_compiled())
        for (signal, encoding), decoder in DECODERS.items()
    )
    return {one.name: one for one in every}
