"""What a span costs as the number of series grows: services × versions × objectives, the stages in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench import workload
from tests.bench.in_memory import BEHIND_NS, PARTITIONS
from tests.bench.product import Product
from tests.bench.record_batches import record_batches
from tests.bench.turns import Work, medians_s

SHAPES = {
    10: workload.Shape(services=5, versions=1, resources=64),
    100: workload.Shape(services=50, versions=1, resources=64),
    1_000: workload.Shape(services=250, versions=2, resources=64),
    10_000: workload.Shape(services=500, versions=10, resources=64),
}
"""By the number of series; two objectives a service. A message has spans of 64 instances, as behind a gateway."""

MESSAGES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """CPU microseconds a span with so many series, by stage too (the mean), and how many spans a run had."""

    series: int
    services: int
    us_per_span: float
    stages_us: dict[str, float]
    spans: int


def measure(runs: int, seed: int) -> list[Series]:
    """Measures turn by turn, after a run that makes the series."""
    turns = {number: _Turns(shape, runs, seed) for number, shape in SHAPES.items()}
    works: dict[str, Work] = {str(number): turn for number, turn in turns.items()}
    for turn in turns.values():
        turn(0)
        turn.forget_times()
    seconds = medians_s(runs, {name: lambda run, work=work: work(run + 1) for name, work in works.items()})  # type: ignore[misc]
    return [
        Series(
            series=number,
            services=SHAPES[number].services,
            us_per_span=seconds[str(number)] / (turn.spans // runs) * 1e6,
            stages_us=turn.stages_us(),
            spans=turn.spans // runs,
        )
        for number, turn in turns.items()
    ]


class _Turns:
    """The same messages at every turn, but for a field that no decoder knows."""

    def __init__(self, shape: workload.Shape, runs: int, seed: int) -> None:
        now_ns = time.time_ns()
        self._ours = Product(workload.bundle(PARTITIONS, shape), now_ns)
        self._time_ns = now_ns - BEHIND_NS
        self._values = workload.messages(MESSAGES, seed=seed, end_ns=now_ns, shape=shape)
        self._batches = [self._batch(run) for run in range(runs + 1)]

    @property
    def spans(self) -> int:
        """Spans taken since the times were forgotten."""
        return self._ours.spans

    def forget_times(self) -> None:
        """Begins to measure."""
        self._ours.forget_times()

    def stages_us(self) -> dict[str, float]:
        """Returns the mean CPU microseconds a span, by stage."""
        return {name: ns / 1000 / self._ours.spans for name, ns in self._ours.spent_ns.items()}

    def _batch(self, run: int) -> list[bytes]:
        count = len(self._values)
        listed = [workload.distinct(self._values, run * count + at) for at in range(count)]
        return record_batches(listed, time_ns=self._time_ns, first_offset=run * count)

    def __call__(self, run: int) -> None:
        self._ours.take(self._batches[run])
        self._ours.digest()
