"""Windows and targets at their bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.config.alert_policies import AlertDocuments
from stream.config.annotations import Annotations, read_annotations
from stream.config.objectives import Slo, read_objectives
from stream.config.problems import Problem
from stream.config.sections import open_section
from stream.config.selection import Selection
from stream.config.selector import Indicator
from stream.config.yaml_positions import read_documents
from stream.core.slo.spec import Objective

NOW_NS = 1_795_000_000 * 10**9
SELECTION = Selection(environment="production", namespace=None, service=None, kinds=(2,))
RATIO = Indicator(selection=SELECTION)


def read(objectives: str, *, duration: str = "30d") -> tuple[list[Objective], list[Problem]]:
    problems: list[Problem] = []
    text = f"""service: checkout
timeWindow: [{{duration: {duration}, isRolling: true}}]
budgetingMethod: Occurrences
objectives: {objectives}
"""
    (node,) = read_documents("f", text.encode()).nodes
    section = open_section(node, "f", "spec", None, problems)
    assert section is not None
    slo = Slo(name="slo", annotations=Annotations(), read_indicator=lambda _: (RATIO, None), spec=section)
    return [one.objective for one in read_objectives(slo, AlertDocuments(), NOW_NS)], problems


@pytest.mark.parametrize(
    ("duration", "minutes"),
    [("60m", 60), ("1h", 60), ("36h", 2160), ("7d", 10080), ("1w", 10080), ("90d", 129600), ("129600m", 129600)],
)
def test_windows(duration: str, minutes: int) -> None:
    objectives, problems = read("[{target: 0.9}]", duration=duration)
    assert problems == []
    assert [objective.window_minutes for objective in objectives] == [minutes]


@pytest.mark.parametrize(
    "duration",
    [
        "59m",
        "129601m",
        "91d",
        "13w",
        "0d",
        "01d",
        "1.5h",
        "-1d",
        "30",
        "30D",
        "1M",
        "1Q",
        "1Y",
        "30 d",
        "9" * 5000 + "d",
    ],
)
def test_windows_that_are_refused(duration: str) -> None:
    objectives, problems = read("[{target: 0.9}]", duration=duration)
    assert objectives == []
    assert [problem.path for problem in problems] == ["spec.timeWindow[0].duration"]


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("target: 0.999", "0.999"),
        ("target: .9990", "0.999"),
        ("target: 999e-3", "0.999"),
        ("target: +0.5", "0.5"),
        ("target: 0.999999999999", "0.999999999999"),
        ("target: 1e-12", "0.000000000001"),
        ("targetPercent: 99.95", "0.9995"),
        ("targetPercent: 90", "0.9"),
        ("targetPercent: 1e1", "0.1"),
        ("targetPercent: 0.001", "0.00001"),
    ],
)
def test_targets_are_canonical_decimals(written: str, target: str) -> None:
    objectives, problems = read(f"[{{{written}}}]")
    assert problems == []
    assert [objective.target for objective in objectives] == [target]


@pytest.mark.parametrize(
    "written",
    [
        *(f"target: {text}" for text in ("0", "1", "-0", "0.0", "1.0", "1e0", "2", "-0.5")),
        *(f"target: {text}" for text in ("1e-31", "1e99", "1e-99", "1e999999999")),
        *(f"targetPercent: {text}" for text in ("0", "100", "1e2", "100.0", "-1", "1e-29", "'99'", "[99]", "true")),
    ],
)
def test_targets_that_are_refused(written: str) -> None:
    objectives, problems = read(f"[{{{written}}}]")
    assert objectives == []
    assert len(problems) == 1


def test_several_objectives_are_named_by_their_display_name_or_their_index() -> None:
    objectives, problems = read("[{target: 0.9}, {displayName: My Goal, target: 0.99}, {target: 0.999}]")
    assert problems == []
    assert [objective.name for objective in objectives] == ["slo/0", "slo/my-goal", "slo/2"]


def test_what_no_certificate_claims_and_how_many_events_there_must_be() -> None:
    path = Path(__file__).parents[2] / "deploy" / "slo" / "checkout-availability.yaml"
    said = 'annotations:\n    qma/certificate: none\n    qma/floor-per-hour: "600"'
    text = path.read_text().replace("annotations:", said, 1)
    documents = read_documents("f", text.encode()).nodes
    assert len(documents) == 1
    problems: list[Problem] = []
    root = open_section(documents[0], "f", "", None, problems)
    assert root is not None
    metadata = root.section("metadata", None)
    assert metadata is not None
    found = read_annotations(metadata, "SLO")
    assert (found.certificate_none, found.floor_per_hour, found.sampling_none) == (True, 600, True)
    assert problems == []
