"""The whole way in one process: record batches in memory → counters and digests. Ours and the peers, same bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from stream.core.units import MINUTE_NS
from tests.bench import peers, product, workload
from tests.bench.product import Product
from tests.bench.record_batches import record_batches
from tests.bench.turns import Work, medians_s

PARTITIONS = 4
BEHIND_NS = 10 * MINUTE_NS
"""The messages are older than their spans, so that no minute closes: in so short a run that would cost more than all
spans together, where a real minute has millions of them. What a close does for each span, the digest, is done and
counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InMemory:
    """Spans a CPU-second of ours and of each peer (None: not installed), and where ours went.

    Args:
        ours: Of the whole way.
        spans: Of ours in one run.
        others: By the name of the peer.
        stages_us: CPU microseconds a span, by stage.
    """

    ours: float
    spans: int
    others: dict[str, float | None]
    stages_us: dict[str, float]


def measure(runs: int, seed: int, counts: tuple[int, int], names: Sequence[str]) -> InMemory:
    """Measures ours, the plain loop and the named peers, after one run whose results are compared.

    Args:
        runs: Turns.
        seed: Of the messages.
        counts: Messages of a run of ours, and of the peers; the latter are the first of the former.
        names: Packages of peers.
    """
    now_ns = time.time_ns()
    values = workload.messages(max(counts), seed=seed, end_ns=now_ns)
    few = record_batches(values[: counts[1]], time_ns=now_ns - BEHIND_NS)
    ours = Product(workload.bundle(PARTITIONS), now_ns)
    expected = peers.naive(few)
    ours.take(few)
    ours.counts(ours.digest()).demand_equal(expected, "ours")
    spans = {"few": ours.spans}
    turns = _Ours(ours, values[: counts[0]], runs, now_ns - BEHIND_NS)
    works: dict[str, Work] = {"ours": lambda run: turns(run + 1)}
    works[peers.NAIVE] = lambda _: peers.naive(few)
    for name in names:
        if peers.is_installed(name):
            peers.PEERS[name](few).demand_equal(expected, name)
            works[name] = lambda _, name=name: peers.PEERS[name](few)  # type: ignore[misc]
    turns(0)
    ours.forget_times()
    seconds = medians_s(runs, works)
    spans["ours"] = ours.spans // runs
    stages_us = {name: ns / 1000 / ours.spans for name, ns in ours.spent_ns.items()}
    return InMemory(
        ours=spans["ours"] / seconds["ours"],
        spans=spans["ours"],
        others={name: spans["few"] / seconds[name] if name in seconds else None for name in (peers.NAIVE, *names)},
        stages_us=stages_us | _apart(ours, turns.batches[runs + 1]),
    )


def _apart(ours: Product, batches: Sequence[bytes]) -> dict[str, float]:
    """Returns what is not on the way of each span: a checkpoint after one more turn, and a part of the fold."""
    ours.checkpoint()
    ours.forget_times()
    ours.take(batches)
    ours.checkpoint()
    rows = ours.decode_records()
    return {
        product.RECORD: ours.spent_ns[product.RECORD] / 1000 / rows,
        product.CHECKPOINT: ours.spent_ns[product.CHECKPOINT] / 1000 / ours.spans,
    }


class _Ours:
    """Our turns: each takes messages of its own, for equal ones would count as sent twice."""

    def __init__(self, ours: Product, values: Sequence[bytes], runs: int, time_ns: int) -> None:
        self._ours = ours
        self.batches: list[list[bytes]] = []
        for run in range(runs + 2):
            listed = [workload.distinct(values, run * len(values) + at) for at in range(len(values))]
            first_offset = ours.next_offset + run * len(values)
            self.batches.append(record_batches(listed, time_ns=time_ns, first_offset=first_offset))

    def __call__(self, run: int) -> None:
        self._ours.take(self.batches[run])
        self._ours.digest()
