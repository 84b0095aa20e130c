"""What a reader of the outputs learns, and that a ledger which differs is called different."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream.core.errors import ConfigError
from stream.core.rendering import render
from stream.demo import story
from stream.demo.options import DemoOptions
from stream.demo.reader import Accounts
from stream.demo.report import Result, as_json
from stream.demo.tally import Tally
from stream.demo.view import View
from stream.demo.workload import Topics, Workload
from tests.demo.folding import BASE_NS, DURATION_S, bundle_in, fold_draws


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[View, list[str]]:
    topics = Topics(partitions=1)
    workload = Workload(seed=2, base_ns=BASE_NS, duration_s=DURATION_S, rate=1.0, topics=topics)
    _, outputs = fold_draws(workload, bundle_in(tmp_path_factory.mktemp("slo"), topics))
    view, lines = View(), []
    for output in outputs:
        rendered = render(output)
        lines += view.take(rendered.topic, rendered.value)
    return view, lines


def test_view_holds_the_latest_state_of_everything(told: tuple[View, list[str]]) -> None:
    view, _ = told
    states = {(c.service, c.version): c.state for c in view.certificates.values()}
    assert states == {
        (story.CHECKOUT.key, "v1"): "issued",
        (story.CHECKOUT.key, "v2"): "revoked",
        (story.GIFTCARDS.key, "v1"): "pending",
        (story.ORDERS.key, "v1"): "issued",
        (story.SEARCH.key, "v1"): "issued",
        (story.SHIPPING.key, "v1"): "issued",
        (story.STOREFRONT.key, "v1"): "issued",
    }
    assert view.certificates[story.GIFTCARDS.key, "v1"].eta_minutes
    assert {o.objective for o in view.objectives.values()} == {
        story.COMPOSITE,
        *(i.objective for service in story.SERVICES for i in service.indicators),
    }
    assert view.repeated == 0


def test_lines_tell_the_story(told: tuple[View, list[str]]) -> None:
    text = "\n".join(told[1])
    for expected in (
        "checkout v2: issued",
        "checkout v2: revoked, the evidence turned on checkout-availability",
        "PAGE  checkout",
        "page resolved  checkout",
        "giftcards v1: pending, insufficient evidence; decidable in about",
    ):
        assert expected in text


def test_an_event_that_comes_again_is_counted_apart(told: tuple[View, list[str]]) -> None:
    view = View()
    value = b'{"id": "1", "data": {"position": "t/0/1", "reason": "malformed"}}'
    assert view.take("deadletter", value)
    assert not view.take("deadletter", value)
    assert (view.events["deadletter"], view.repeated) == (1, 1)


def result(**changes: Any) -> Result:
    tally = Tally()
    tally.message("spans", counted=9, duplicate=3, late=1, rejected={"malformed": 2})
    tally.requests("availability", [1, 2], [True, False])
    accounts = Accounts(
        received=15, counted=9, duplicate=3, late=1, rejected={"malformed": 2}, replayed=5, offsets={0: 1}, in_flight=0
    )
    return Result(
        seed=1,
        tally=tally,
        accounts={"spans": replace(accounts, **changes)},
        indicators=accounts,
        requests={"availability": (2, 1)},
        view=View(),
        kills=0,
        restarts=0,
        elapsed_s=1.0,
    )


def test_ledger_that_agrees_is_equal() -> None:
    assert as_json(result())["ledger_equal"]
    assert as_json(result())["produced"] == 15


@pytest.mark.parametrize(
    "changes",
    [
        {"received": 14, "counted": 8},
        {"counted": 10, "late": 0},
        {"counted": 10, "duplicate": 2},
        {"counted": 8, "duplicate": 4},
        {"rejected": {"malformed": 1, "future": 1}},
        {"in_flight": 1},
    ],
)
def test_ledger_that_differs_anywhere_is_not(changes: dict[str, Any]) -> None:
    assert not as_json(result(**changes))["ledger_equal"]


def test_requests_that_differ_are_noticed() -> None:
    assert not replace(result(), requests={"availability": (2, 0)}).is_equal


@pytest.mark.parametrize("wrong", [{"duration_s": 1.0}, {"rate": 0.0}, {"kill_workers": 99}, {"seed": -1}])
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--"):
        DemoOptions(**wrong)
    with pytest.raises(ConfigError, match="no directory"):
        DemoOptions(json_path=tmp_path / "absent" / "result.json")
