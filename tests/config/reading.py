"""SLO documents for tests: the smallest valid one, with the parts that a test is about."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from stream.config.openslo import Configuration, read_configuration
from stream.config.problems import Problem
from stream.config.yaml_positions import List, Map, Node, ScalarKind, read_documents
from stream.core.slo.spec import Objective

NOW_NS = 1_795_000_000 * 10**9
"""November 2026."""

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "schemas/config/slo.v1.schema.json").read_text()))
"""What editors check a document against."""

ROLLING = "{duration: 30d, isRolling: true}"


def document(kind: str, name: str, spec: str, *, annotations: str = "", version: str = "openslo/v1") -> str:
    """Returns a document; `spec` is YAML in flow style."""
    metadata = f"{{name: {name}, annotations: {{{annotations}}}}}"
    return f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"


def ratio(fields: str = "", rule: str = "good: status_ok", *, part: str = "good", total: str | None = None) -> str:
    """Returns a ratioMetric; `fields` are those of both selectors, `total` those of the total's where they differ."""
    total_fields = fields if total is None else total
    return (
        f"ratioMetric: {{{part}: {{metricSource: {{type: qma, spec: {{{_joined(fields, rule)}}}}}}}, "
        f"total: {{metricSource: {{type: qma, spec: {{{_joined(total_fields)}}}}}}}}}"
    )


def raw(kind: str, fields: str) -> str:
    """Returns a ratioMetric whose points are ratios."""
    return f"ratioMetric: {{rawType: {kind}, raw: {{metricSource: {{type: qma, spec: {{{_joined(fields)}}}}}}}}}"


def threshold(fields: str = "") -> str:
    """Returns a thresholdMetric."""
    return f"thresholdMetric: {{metricSource: {{type: qma, spec: {{{_joined(fields)}}}}}}}"


def slo(
    indicator: str | None = None,
    objectives: str = "{target: 0.999}",
    *,
    name: str = "slo",
    method: str = "Occurrences",
    window: str = ROLLING,
    annotations: str = "",
    policies: str = "",
    service: str = "checkout",
) -> str:
    """Returns an SLO."""
    spec = (
        f"{{service: {service}, indicator: {{metadata: {{name: {name}-sli}}, spec: {{{indicator or ratio()}}}}}, "
        f"timeWindow: [{window}], budgetingMethod: {method}, objectives: [{objectives}], alertPolicies: [{policies}]}}"
    )
    return document("SLO", name, spec, annotations=annotations)


def read(*documents: str, events_per_hour: int | None = None) -> tuple[Configuration, list[Problem]]:
    """Returns what a file of these documents says, and its problems and warnings."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("".join(documents))
        file.flush()
        events = None if events_per_hour is None else Fraction(events_per_hour)
        return read_configuration([Path(file.name)], now_ns=NOW_NS, events_per_hour=events)


def loaded(*documents: str) -> Configuration:
    """Returns what a file of these documents says, which are valid, by the schema for editors as well."""
    for node in read_documents("", "".join(documents).encode()).nodes:
        assert [error.message for error in SCHEMA.iter_errors(plain(node))] == []
    configuration, problems = read(*documents)
    assert [str(problem) for problem in problems if not problem.is_warning] == []
    return configuration


def only(*documents: str) -> Objective:
    """Returns the one objective of these valid documents."""
    (objective,) = loaded(*documents).objectives
    return objective


def plain(node: Node) -> Any:
    """Returns a node as an editor sees it, numbers as floats."""
    match node:
        case Map(entries=entries):
            return {key: plain(entry.value) for key, entry in entries.items()}
        case List(items=items):
            return [plain(item) for item in items]
        case _ if node.kind is ScalarKind.NUMBER:
            return float(node.text)
        case _ if node.kind is ScalarKind.BOOLEAN:
            return node.text.lower() == "true"
        case _:
            return None if node.kind is ScalarKind.NULL else node.text


def _joined(*fields: str) -> str:
    return ", ".join(filter(None, ("environment: production", *fields)))
