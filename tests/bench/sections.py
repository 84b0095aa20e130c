"""The sections of the benchmark: each measures, prints its table, and may give a group of bars to the picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import decoding, end_to_end, in_memory, product
from tests.bench import series as growth
from tests.bench import windows as window_sums
from tests.bench.in_memory import InMemory
from tests.bench.peers import NAIVE, PEERS, is_installed
from tests.bench.tables import Line, print_table
from tests.bench.workload import SERVICES, VERSIONS

BEYOND_DECODING_US = 2.2
"""Budget of everything but fetching and decoding, a span."""

_BEYOND = (product.COLLECT, product.ROUTE, product.ENCODE, product.FOLD, product.DIGEST)
_MEMORY_RATE, _MEMORY_RATIO = 500_000, 15.0
_BROKER_RATE, _BROKER_RATIO = 300_000, 10.0
_SERIES_RATIO = 1.3
_EVALUATION_MS, _PAIRS_GB = 50.0, 3.0
_BROKER_PEERS = {"faust": "plain Faust agent", "quixstreams": "quixstreams"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How much is measured.

    Args:
        runs: Turns of which the median is taken.
        seed: Of all messages.
        messages: Messages of a turn in one process.
        peer_messages: And of a peer.
        broker_messages: Messages of a turn on the broker.
        logs: Directory for what processes say.
    """

    runs: int
    seed: int
    messages: int
    peer_messages: int
    broker_messages: int
    logs: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Spans a CPU-second, ours first."""

    title: str
    rates: dict[str, float]


def decoders(asked: Asked) -> None:
    """Measures each format's decoder against the slow way."""
    lines = []
    for found in decoding.measure(asked.runs):
        lines += [
            Line(
                name=found.name,
                measured=found.rate,
                target=found.target,
                ratio=found.rate / found.loop,
                target_ratio=found.target_ratio,
                against=f"{found.library}: {found.loop:,.0f}",
            ),
            Line(ratio=found.rate / found.plain, against=f"our plain decoder: {found.plain:,.0f}"),
        ]
    print_table(f"decoders: message bytes → columns, median of {asked.runs}", "items/s", lines)


def stages(asked: Asked) -> None:
    """Measures the stages of ours in one process."""
    _print_stages(asked, _in_memory(asked, ()))


def memory(asked: Asked) -> Group:
    """Measures ours and the plain loop in one process."""
    return _print_memory(asked, _in_memory(asked, ()))


def peers(asked: Asked) -> Group:
    """Measures ours and every peer in one process."""
    found = _in_memory(asked, tuple(PEERS))
    _print_stages(asked, found)
    return _print_memory(asked, found)


def _in_memory(asked: Asked, names: Sequence[str]) -> InMemory:
    return in_memory.measure(asked.runs, asked.seed, (asked.messages, asked.peer_messages), names)


def _print_stages(asked: Asked, found: InMemory) -> None:
    beyond = sum(found.stages_us[name] for name in _BEYOND)
    lines = [Line(name=name, measured=cost) for name, cost in found.stages_us.items()]
    lines.append(Line(name="everything but fetching and decoding", measured=beyond, target=BEYOND_DECODING_US))
    title = f"stages of ours in one process, {found.spans} spans a turn, mean of {asked.runs}"
    print_table(title, "CPU µs/span", lines, most=True)


def _print_memory(asked: Asked, found: InMemory) -> Group:
    lines = [Line(name="ours", measured=found.ours, target=_MEMORY_RATE)]
    for name, rate in found.others.items():
        if rate is None:
            lines.append(Line(name=name, against="not installed"))
        else:
            target = _MEMORY_RATIO if name == NAIVE else None
            lines.append(Line(name=name, measured=rate, ratio=found.ours / rate, target_ratio=target, against="ours"))
    title = (
        "one process, zstd record batches in memory → counters and digests, results equal, "
        f"{found.spans} spans a turn of ours, {asked.peer_messages} messages a turn of a peer, median of {asked.runs}"
    )
    print_table(title, "spans/CPU-s", lines)
    rates = {name: rate for name, rate in found.others.items() if rate is not None}
    return Group(title="one process, record batches in memory", rates={"QMA Stream": found.ours, **rates})


def series(asked: Asked) -> None:
    """Measures the cost of a span at growing numbers of series."""
    found = growth.measure(asked.runs, asked.seed)
    least = found[0].us_per_span
    lines = [
        Line(
            name=f"{one.series:,} series, {one.services} services",
            measured=one.us_per_span,
            ratio=one.us_per_span / least,
            target_ratio=_SERIES_RATIO,
            against=f"{found[0].series} series",
        )
        for one in found
    ]
    title = f"cost of a span as series grow, in memory, {found[-1].spans} spans a turn, median of {asked.runs}"
    print_table(title, "CPU µs/span", lines, most=True)
    for name in found[0].stages_us:
        print(f"  {name:34} " + " ".join(f"{one.stages_us[name]:>8.3f}" for one in found))


def windows(asked: Asked) -> None:
    """Measures the window sums and burn rates of an evaluation, and the memory of what they are summed from."""
    found = window_sums.measure(4 * asked.runs)
    line = Line(
        name=f"{window_sums.PAIRS:,} pairs × {len(window_sums.LENGTHS)} windows, sampled",
        measured=found.moved_s * 1e3,
        target=_EVALUATION_MS,
        ratio=found.moved_s / found.summed_s,
        against=f"summed from the rings anew: {found.summed_s * 1e3:,.1f}",
    )
    title = f"window sums and burn rates at an evaluation, one core, median of {4 * asked.runs}"
    print_table(title, "CPU ms", [line], most=True)
    lines = []
    for columns, name in ((window_sums.PLAIN, "not sampled"), (window_sums.SAMPLED, "sampled")):
        sizes = window_sums.memory(columns)
        lines += [
            Line(
                name=f"{one.pairs:,} pairs, {name}",
                measured=one.bytes / 1e9,
                target=_PAIRS_GB if one.pairs == window_sums.PAIRS else None,
                ratio=one.bytes / sizes[0].bytes,
                target_ratio=1.1 * one.pairs / sizes[0].pairs,
                against=f"{sizes[0].pairs:,} pairs; {one.bytes / one.pairs / 1e3:,.0f} kB a pair",
            )
            for one in sizes
        ]
    print_table("memory of full rings, a pair with its all-versions series and one version's", "GB", lines, most=True)


def broker(asked: Asked) -> Group:
    """Measures ours and the peers on a real broker."""
    names = [name for name in _BROKER_PEERS if is_installed(name)]
    counts = (asked.broker_messages, asked.peer_messages)
    runs = [end_to_end.measure(asked.seed + run, counts, asked.logs, names) for run in range(asked.runs)]
    ours = statistics.median(run.spans_per_cpu_s for run in runs)
    rates = {name: statistics.median(run.others[name] for run in runs) for name in names}
    lines = [Line(name="ours, ingest and state", measured=ours, target=_BROKER_RATE)]
    for name, called in _BROKER_PEERS.items():
        if name in rates:
            target = _BROKER_RATIO if name == "faust" else None
            ratio = ours / rates[name]
            lines.append(Line(name=called, measured=rates[name], ratio=ratio, target_ratio=target, against="ours"))
        else:
            lines.append(Line(name=called, against="not installed"))
    title = (
        f"source topic on a real broker → counted state, results equal, {runs[0].spans} spans a turn of ours, "
        f"{asked.peer_messages} messages of a peer, median of {asked.runs}; {SERVICES} services × {VERSIONS} versions "
        "× 2 objectives, zstd"
    )
    print_table(title, "spans/CPU-s", lines)
    ingest = statistics.median(run.ingest_cpu_s / run.spans * 1e6 for run in runs)
    state = statistics.median(run.state_cpu_s / run.spans * 1e6 for run in runs)
    memory_mb = max(run.state_rss_mb for run in runs)
    print(f"  ours: {ingest:.2f} µs/span in the ingest, {state:.2f} in the state worker, which took {memory_mb:.0f} MB")
    drawn = {_BROKER_PEERS[name]: rate for name, rate in rates.items()}
    return Group(title="source topic on a real broker", rates={"QMA Stream": ours, **drawn})
