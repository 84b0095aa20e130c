"""Sketches: digests that other people's library reads, that do not depend on order, and that survive a restart."""

import numpy as np
import orjson
import pytest
from fastdigest import TDigest
from hypothesis import given, settings
from hypothesis import strategies as st
from tdigest import TDigest as Oracle

from stream.core.sketch import BUFFER_MAX, Durations, Sketches, quantiles, wire

durations = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300)


def closed(sketches: Sketches, minute: int = 1) -> TDigest:
    digest, _ = sketches.close(minute)
    assert digest is not None
    return digest


def digest_of(values, minute=1):
    sketches = Sketches()
    sketches.add(minute, np.array(values, np.float64))
    return closed(sketches, minute)


@pytest.mark.parametrize("size", [1, 2, 50, 5_000, 3 * BUFFER_MAX])
def test_the_published_centroids_load_into_the_tdigest_package_with_the_same_quantiles(size):
    values = np.random.default_rng(7).lognormal(-3, 1, size)
    digest = digest_of(values)
    oracle = Oracle()
    oracle.update_centroids_from_list(orjson.loads(orjson.dumps(wire(digest))))
    assert oracle.n == size
    for name, q in (("p50_s", 50), ("p95_s", 95), ("p99_s", 99)):
        found = quantiles(digest)
        assert found is not None
        ours = found[name]
        rank = np.searchsorted(np.sort(values), [ours, oracle.percentile(q)]) / size
        assert abs(rank - q / 100).max() <= max(0.02, 1 / size), (name, rank)


@given(durations, st.randoms(use_true_random=False))
def test_up_to_the_buffer_order_and_batching_do_not_matter(values, shuffle):
    shuffled = list(values)
    shuffle.shuffle(shuffled)
    apart = Sketches()
    for value in shuffled:
        apart.add(1, np.array([value]))
    assert wire(closed(apart)) == wire(digest_of(values))


@settings(max_examples=20)
@given(st.lists(st.integers(1, 6000), min_size=1, max_size=5), st.integers(0, 4))
def test_a_restart_in_the_middle_changes_no_bit(sizes, cut):
    random = np.random.default_rng(len(sizes))
    batches = [random.lognormal(-3, 1, size) for size in sizes]
    whole, restarted = Sketches(), Sketches()
    for i, batch in enumerate(batches):
        if i == cut:
            dumped = {minute: restarted.dump(minute) for minute in restarted.minutes()}
            restarted = Sketches()
            for minute, data in dumped.items():
                restarted.load(minute, data)
        whole.add(1, batch)
        restarted.add(1, batch)
        assert whole.dump(1) == restarted.dump(1)
    assert wire(closed(whole)) == wire(closed(restarted))


@settings(max_examples=20)
@given(st.lists(st.integers(1, 6000), min_size=1, max_size=5))
def test_beyond_the_buffer_only_the_order_matters(sizes):
    values = np.random.default_rng(len(sizes)).lognormal(-3, 1, sum(sizes))
    whole, apart = Sketches(), Sketches()
    whole.add(1, values)
    for batch in np.split(values, np.cumsum(sizes)[:-1]):
        apart.add(1, batch)
    assert whole.dump(1) == apart.dump(1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2), st.floats(0, 9)), max_size=60), st.integers(1, 9))
def test_durations_are_sorted_out_by_owner_and_minute_in_the_order_in_which_they_came(told, step):
    waiting = Durations()
    expected: dict[tuple[int, int], list[float]] = {}
    for at in range(0, len(told), step):
        owner, minute, values = zip(*told[at : at + step], strict=True)
        waiting.add(np.array(owner), np.array(minute), np.array(values))
    for owner, minute, value in told:
        expected.setdefault((owner, minute), []).append(value)
    assert len(waiting) == len(told)
    assert {(owner, minute): values.tolist() for owner, minute, values in waiting.take()} == expected
    assert (len(waiting), list(waiting.take())) == (0, [])


def test_a_minute_without_values_has_no_digest_and_no_quantiles():
    assert Sketches().close(1) == (None, [])
    assert quantiles(None) is None


def test_closing_a_minute_forgets_older_ones_and_keeps_newer_ones():
    sketches = Sketches()
    for minute in (1, 2, 3):
        sketches.add(minute, np.array([float(minute)]))
    digest, gone = sketches.close(2)
    assert gone == [1, 2]
    assert quantiles(digest) == {"p50_s": 2.0, "p95_s": 2.0, "p99_s": 2.0}
    assert sketches.minutes() == [3]
    assert sketches.close(1) == (None, [])
