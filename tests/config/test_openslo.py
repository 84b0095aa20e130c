"""OpenSLO files: good ones give exact objectives, bad ones the right line and the fix, all at once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.exclusion import DEFAULT_WITHOUT
from stream.config.openslo import load_configuration
from stream.config.yaml_positions import read_documents
from stream.core.columns import Kind
from stream.core.errors import ConfigError
from stream.core.slo.spec import Objective, SliSignal
from tests.config.reading import NOW_NS, SCHEMA, plain

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
DEPLOYED = sorted((ROOT / "deploy/slo").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "schemas/config/examples").iterdir())
GOOD = sorted((HERE / "good").iterdir())
BAD = sorted((HERE / "bad").glob("*.yaml"))
SMALLEST = (HERE / "good/smallest.yaml").read_text()
CHECKOUT = "production/shop/checkout"
WORKER: dict[str, Any] = {
    "service": "production/shop/order-worker",
    "window_minutes": 40320,
    "kinds": (Kind.CONSUMER,),
    "duration_lte_ns": 1_500_000_000,
    "without": DEFAULT_WITHOUT,
}
HOUR: dict[str, Any] = {"service": "prod/-/checkout", "target": "0.9", "window_minutes": 60}
SHARED: dict[str, Any] = {
    "kinds": (Kind.INTERNAL, Kind.SERVER, Kind.CONSUMER),
    "duration_lte_ns": 250_000_000,
    "without": DEFAULT_WITHOUT,
}


def load_objectives(paths: Sequence[Path]) -> list[Objective]:
    return list(load_configuration(paths, now_ns=NOW_NS).objectives)


def errors_of(*paths: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_objectives(paths)
    return str(caught.value).split("\n")


@pytest.mark.parametrize(
    ("path", "objectives"),
    [
        (
            "deploy/slo/checkout-availability.yaml",
            [
                Objective(
                    service=CHECKOUT,
                    name="checkout-availability",
                    target="0.999",
                    window_minutes=43200,
                    sampling_none=True,
                    without=DEFAULT_WITHOUT,
                )
            ],
        ),
        (
            "deploy/slo/checkout-latency.yaml",
            [
                Objective(
                    service=CHECKOUT,
                    name="checkout-latency",
                    target="0.95",
                    window_minutes=43200,
                    kinds=(Kind.SERVER,),
                    duration_lte_ns=200_000_000,
                    sampling_none=True,
                    without=DEFAULT_WITHOUT,
                )
            ],
        ),
        (
            "deploy/slo/checkout-http-duration.yaml",
            [
                Objective(
                    service=CHECKOUT,
                    name="checkout-http-duration",
                    target="0.95",
                    window_minutes=43200,
                    kinds=(),
                    signal=SliSignal.METRICS,
                    metric="http.server.request.duration",
                    attributes=(("http.request.method", ("GET", "POST")),),
                    duration_lte_ns=250_000_000,
                )
            ],
        ),
        (
            "deploy/slo/checkout-flag-evaluations.yaml",
            [
                Objective(
                    service=CHECKOUT,
                    name="checkout-flag-evaluations",
                    target="0.999",
                    window_minutes=10080,
                    kinds=(),
                    signal=SliSignal.LOGS,
                    event="feature_flag.evaluation",
                    good_attributes=(
                        (
                            "feature_flag.result.reason",
                            ("cached", "default", "disabled", "split", "static", "targeting_match"),
                        ),
                    ),
                    sampling_none=True,
                )
            ],
        ),
        (
            "deploy/slo/order-events-latency.yaml",
            [
                Objective(name="order-events-latency/promise", target="0.99", **WORKER),
                Objective(name="order-events-latency/goal", target="0.995", **WORKER),
            ],
        ),
        (
            "tests/config/good/smallest.yaml",
            [
                Objective(
                    service="production/-/checkout",
                    name="smallest",
                    target="0.5",
                    window_minutes=60,
                    without=DEFAULT_WITHOUT,
                )
            ],
        ),
        (
            "tests/config/good/shared_sli.yaml",
            [
                Objective(service="no/on/café%2Fbar", name="yes/0", target="0.9", window_minutes=129600, **SHARED),
                Objective(service="no/on/café%2Fbar", name="yes/1", target="0.9995", window_minutes=129600, **SHARED),
                Objective(
                    service="no/on/café%2Fbar",
                    name="yes/stretch-goal",
                    target="0.999",
                    window_minutes=129600,
                    **SHARED,
                ),
                Objective(
                    service="no/on/search",
                    name="7up",
                    target="0.99",
                    window_minutes=90,
                    sampling_none=True,
                    **SHARED,
                ),
            ],
        ),
        (
            "tests/config/good/three_signals.yaml",
            [
                Objective(name="fewer-errors", signal=SliSignal.LOGS, kinds=(), severity_lt=17, **HOUR),
                Objective(
                    name="flags",
                    signal=SliSignal.LOGS,
                    kinds=(),
                    event="feature_flag.evaluation",
                    attributes=(
                        ("feature_flag.key", ("new-cart",)),
                        ("feature_flag.version", ("1.5", "2")),
                        ("ratio", ("0.01",)),
                        ("sampled", ("true",)),
                    ),
                    good_attributes=(("feature_flag.result.reason", ("split", "static")), ("n", ("010",))),
                    **HOUR,
                ),
                Objective(
                    name="calls",
                    signal=SliSignal.METRICS,
                    kinds=(Kind.SERVER,),
                    metric="traces.span.metrics.calls",
                    attributes=(("span.name", ("GET /cart",)),),
                    **HOUR,
                ),
                Objective(
                    name="duration",
                    signal=SliSignal.METRICS,
                    kinds=(),
                    metric="http.server.request.duration",
                    duration_lte_ns=250_000_000,
                    **HOUR,
                ),
            ],
        ),
        (
            "tests/config/good/threshold.json",
            [
                Objective(
                    service="unknown/-/pay",
                    name="threshold",
                    target="0.95",
                    window_minutes=40320,
                    kinds=(Kind.CLIENT,),
                    duration_lte_ns=123_456_789,
                    without=DEFAULT_WITHOUT,
                )
            ],
        ),
    ],
)  # fmt: skip
def test_a_good_file_gives_exactly_these_objectives(path: str, objectives: list[Objective]) -> None:
    assert load_objectives([ROOT / path]) == objectives


def test_every_good_file_is_in_the_table() -> None:
    assert len(DEPLOYED) == 5
    assert len(GOOD) == 4


def test_the_examples_can_be_applied_together() -> None:
    assert len(load_objectives(DEPLOYED)) == 6


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_the_line_and_the_fix(path: Path) -> None:
    """The first lines of each bad file say what the message must be; `FILE` stands for its own name."""
    lines = path.read_text().splitlines()
    expected = [line.removeprefix("# expect ") for line in lines if line.startswith("# expect ")]
    assert expected
    found = [line.removeprefix(f"{path}:").replace(str(path), "FILE") for line in errors_of(path)]
    assert found == expected


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_message_says_how_to_fix_it(path: Path) -> None:
    for line in errors_of(path):
        assert line.startswith(f"{path}:")
        assert "; " in line


def test_all_errors_of_all_files_are_reported_at_once_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "b.yaml", tmp_path / "a.yaml"
    wrong = SMALLEST.replace("target: .50", "target: 99.9").replace("1h", "5m").replace("Occurrences", "Events")
    first.write_text(wrong.replace("kind: SLO", "kind: SLO\nowner: me"))
    second.write_text("kind: SLO\n\tx: 1\n")
    found = [line.removeprefix(f"{tmp_path}/").split(": ")[:2] for line in errors_of(first, second)]
    assert found == [
        ["b.yaml:4:1", "owner"],
        ["b.yaml:13:27", "spec.timeWindow[0].duration"],
        ["b.yaml:14:20", "spec.budgetingMethod"],
        ["b.yaml:15:25", "spec.objectives[0].target"],
        ["a.yaml:2:1", "YAML syntax"],
    ]


def test_every_required_field_of_an_empty_slo_is_named_once(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text("kind: SLO\nmetadata: {}\nspec: {}\n")
    paths = [line.split(": ")[1] for line in errors_of(file)]
    assert sorted(paths) == [
        "apiVersion",
        "metadata.name",
        "spec.budgetingMethod",
        "spec.indicator",
        "spec.objectives",
        "spec.service",
        "spec.timeWindow",
    ]


def test_a_name_taken_in_another_file_names_both_places(tmp_path: Path) -> None:
    first, second = tmp_path / "one.yaml", tmp_path / "two.yaml"
    first.write_text(SMALLEST)
    second.write_text("\n\n" + SMALLEST)
    assert errors_of(first, second) == [
        f"{second}:6:18: metadata.name: SLO `smallest` is defined twice, first at {first}:4:18; rename or remove one"
    ]


def test_a_file_that_is_listed_twice_is_read_once() -> None:
    path = HERE / "good/smallest.yaml"
    assert len(load_objectives([path, HERE / "bad/../good/smallest.yaml"])) == 1


def test_an_indicator_may_be_in_another_file(tmp_path: Path) -> None:
    documents = (HERE / "good/shared_sli.yaml").read_text().split("---\n")
    files = []
    for i, document in enumerate(documents):
        if document.strip():
            files.append(tmp_path / f"{i}.yaml")
            files[-1].write_text(document)
    assert sorted(o.name for o in load_objectives(files)) == ["7up", "yes/0", "yes/1", "yes/stretch-goal"]


def test_a_reference_is_not_called_unknown_when_its_document_could_not_be_read(tmp_path: Path) -> None:
    slo, sli = tmp_path / "slo.yaml", tmp_path / "sli.yaml"
    slo.write_text((HERE / "bad/indicator_ref_unknown.yaml").read_text())
    sli.write_text("apiVersion: openslo/v1\nkind: SLI\nmetadata: {name: checkout-success-ratio\n")
    (line,) = errors_of(slo, sli)
    assert line.startswith(f"{sli}:3:11: YAML syntax: ")


def test_an_indicator_that_two_slos_use_is_reported_once(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text((HERE / "good/shared_sli.yaml").read_text().replace("0.25s", "0.25"))
    (line,) = errors_of(file)
    assert line.endswith("good.duration_lte: `0.25` has no unit; write for example `0.25ms` or `0.25s`")


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    missing, directory, empty = tmp_path / "missing.yaml", tmp_path / "slo", tmp_path / "empty.yaml"
    directory.mkdir()
    empty.write_text("# nothing\n---\n")
    assert errors_of(missing, directory, empty) == [
        f"{missing}:1:1: file: cannot be read (No such file or directory); check the name and the permissions",
        f"{directory}:1:1: file: is a directory; name the files in it, for example `{directory}/*.yaml`",
        f"{empty}:1:1: file: holds no document; write an SLO into it or leave it out",
    ]


def test_no_file_at_all_is_an_error() -> None:
    assert len(errors_of()) == 1


def test_a_hostile_file_gives_a_bounded_message_of_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    keys = "\n".join(f'"x\\n{i}": 1' for i in range(15_000))
    file.write_text(keys + "\n---\nx: 1" * 1000)
    lines = errors_of(file)
    assert len(lines) == 201
    assert all(line.startswith(f"{file}:") for line in lines[:-1])
    assert lines[-1].startswith("and ")


digits = st.text("0123456789", min_size=1, max_size=12)


@given(fraction=digits.filter(lambda text: text.strip("0")))
def test_a_target_of_many_digits_stays_exact(fraction: str) -> None:
    objective = _with_objective(f"target: 0.{fraction}")
    assert objective.target_ratio == Fraction(int(fraction), 10 ** len(fraction))
    assert objective.target == "0." + fraction.rstrip("0")


@given(whole=st.integers(0, 99), fraction=digits.map(lambda text: text[:10]))
def test_a_percent_of_many_digits_stays_exact(whole: int, fraction: str) -> None:
    text = f"{whole}.{fraction}"
    if Decimal(text) > 0:
        objective = _with_objective(f"targetPercent: {text}")
        assert objective.target_ratio == Fraction(text) / 100
        assert "e" not in objective.target.lower()


@given(ns=st.integers(1, 7 * 86_400 * 10**9))
def test_a_threshold_in_seconds_is_exact_to_the_nanosecond(ns: int) -> None:
    text = f"{ns // 10**9}.{ns % 10**9:09d}"
    assert _with_objective(f"target: 0.9, op: lte, value: {text}", threshold=True).duration_lte_ns == ns


def _with_objective(fields: str, *, threshold: bool = False) -> Objective:
    text = SMALLEST.replace("{target: .50}", f"{{{fields}}}")
    if threshold:
        ratio = text[text.index("      ratioMetric:") : text.index("  timeWindow:")]
        source = "{metricSource: {type: qma, spec: {environment: production}}}"
        text = text.replace(ratio, f"      thresholdMetric: {source}\n")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        (objective,) = load_objectives([Path(file.name)])
    return objective


@pytest.mark.parametrize("path", [*DEPLOYED, *EXAMPLES, *GOOD], ids=lambda path: path.stem)
def test_every_valid_example_validates_against_the_schema(path: Path) -> None:
    for node in read_documents(str(path), path.read_bytes()).nodes:
        assert [error.message for error in SCHEMA.iter_errors(plain(node))] == []


def test_the_schema_is_one() -> None:
    SCHEMA.check_schema(SCHEMA.schema)


# What needs two documents, two places in one, or exact arithmetic with units.
BEYOND_THE_SCHEMA = {
    "inventory_route_twice",
    "inventory_twice",
    "inventory_within",
    "objectives_composite_target_alone",
    "objectives_without_composite_target",
    "adjustment_ends_before",
    "adjustment_indicator_unknown",
    "adjustment_no_day",
    "adjustment_service_unknown",
    "alert_condition_unknown",
    "alert_lookback_longer_than_the_window",
    "alert_lookback_not_kept",
    "alert_policies_disagree",
    "alert_policy_twice",
    "alert_policy_unknown",
    "alert_short_window_longer",
    "alert_target_unknown",
    "attributes_value_too_large",
    "attributes_value_twice",
    "calendar_zone_unknown",
    "cohorts_other",
    "cohorts_selected_already",
    "composite_calls_of_one",
    "composite_component_composite",
    "composite_component_found",
    "composite_component_of_several",
    "composite_component_twice",
    "composite_component_unknown",
    "composite_name_taken",
    "composite_weight_fine",
    "data_source_unknown",
    "duration_finer_than_ns",
    "duration_zero",
    "empty_slice_of_occurrences",
    "good_metric_of_other_routes",
    "good_metric_with_a_rule",
    "indicator_ref_misspelt",
    "indicator_ref_unknown",
    "maintenance_service_unknown",
    "maintenance_too_long",
    "names_twice_in_file",
    "no_slo",
    "objective_names_twice",
    "op_lt_of_histograms",
    "routes_and_attribute",
    "time_slice_target_too_fine",
    "time_slice_window_does_not_divide_the_window",
    "total_differs",
    "total_differs_in_attributes",
    "total_differs_in_cohorts",
    "total_differs_in_default_signal",
    "total_differs_in_exclude",
    "total_differs_in_kinds",
    "total_differs_in_metric",
    "total_differs_in_routes",
    "total_differs_in_service",
    "total_differs_in_signal",
    "total_differs_in_versions",
    "value_too_long",
    "window_too_long",
    "window_too_short",
    "without_what_is_wanted",
}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_schema_refuses_what_a_schema_can(path: Path) -> None:
    if path.stem.startswith("yaml_"):
        return
    documents = [plain(node) for node in read_documents(str(path), path.read_bytes()).nodes]
    accepted = all(SCHEMA.is_valid(document) for document in documents)
    assert accepted == (path.stem in BEYOND_THE_SCHEMA)
