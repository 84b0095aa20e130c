"""The protocol holds under kills, freezes, rebalances and jumps of the clock; each rule that is broken shows."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from stream.core.engine import heard, second_stage
from stream.testing import WITH_COMPOSITES, Mutation, Outcome, simulate
from stream.testing.__main__ import main
from tests.testing.real_routing import RealRouting, simulate_real

SEEDS = 500
COMPOSITE_SEEDS = 24
CAUGHT_WITHIN = 100
"""The rarest of them shows in about one seed of ten."""


def test_every_seed_holds_with_the_routing_of_the_ingest():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcomes = list(pool.map(simulate_real, range(SEEDS), chunksize=25))

    assert {outcome.seed: outcome.failures for outcome in outcomes if outcome.failures} == {}
    for misfortune in ("kills", "freezes", "rebalances", "deaths", "jumps", "lost", "commits_rejected"):
        assert sum(outcome.counts.get(misfortune, 0) for outcome in outcomes) >= 100, misfortune


def simulate_composites(seed: int) -> Outcome:
    """Returns the outcome of a seed in which the ingest reads indicators back for a composite."""
    return simulate(seed, scenario=WITH_COMPOSITES, routing_of=RealRouting)


def test_composites_are_what_their_components_make_them_whatever_happened():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcomes = list(pool.map(simulate_composites, range(COMPOSITE_SEEDS), chunksize=5))

    assert {outcome.seed: outcome.failures for outcome in outcomes if outcome.failures} == {}
    assert sum(outcome.counts.get("kills", 0) for outcome in outcomes) >= 30


@pytest.mark.parametrize("broken", ["not corrected", "heard twice", "losses not heard of"])
def test_a_composite_that_is_not_what_its_components_make_it_is_caught(broken, monkeypatch):
    if broken == "not corrected":
        monkeypatch.setattr(second_stage, "_correct", lambda *_: None)
    elif broken == "heard twice":
        monkeypatch.setattr(heard.Heard, "take", _takes_each_twice)
    else:
        monkeypatch.setattr(second_stage, "book_losses", lambda *_: None)
    assert any(simulate(seed, scenario=WITH_COMPOSITES).failures for seed in range(COMPOSITE_SEEDS))


def _takes_each_twice(self, name, minute, said):
    known = self.of(name, minute)
    if known is not None:
        said = said._replace(weight=said.weight + known.weight, weight_bad=said.weight_bad + known.weight_bad)
    self._minutes.setdefault(minute, {})[name] = said
    self.changed.add(str(minute))
    return True


def test_a_seed_replays_to_the_byte():
    outcomes = [simulate_real(11) for _ in range(2)]

    assert outcomes[0] == outcomes[1]
    assert outcomes[0].digest
    assert simulate_real(12).digest != outcomes[0].digest


@pytest.mark.parametrize("mutation", list(Mutation))
def test_a_broken_rule_is_caught_where_the_kept_one_holds(mutation):
    seed = next((seed for seed in range(CAUGHT_WITHIN) if simulate(seed, mutation=mutation).failures), None)

    assert seed is not None, f"{mutation} was not caught within {CAUGHT_WITHIN} seeds"
    assert simulate(seed).failures == ()


def test_the_command_names_the_seed_that_fails(capsys):
    assert main(["--seeds", "2", "--first", "3"]) == 0
    assert "2 seeds in" in capsys.readouterr().out

    assert main(["--seeds", "4", "--mutation", "manifest_first"]) == 1
    said = capsys.readouterr().out
    assert "failures" in said
    assert "replay one with: python -m stream.testing --seeds 1 --first" in said
