"""Outputs: every event is a CloudEvent that fulfils its published schema, with an id that is a function of content."""

import json
from functools import lru_cache
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from stream.core.certificate.lifecycle import CertificateState
from stream.core.engine import Engine
from stream.core.events import CertificateEvent, Output, StatusGone, is_urgent
from stream.core.rendering import Rendered, render
from tests.core.engine.log_writer import run
from tests.core.engine.scenarios import rich_log

SCHEMAS = Path(__file__).parents[2] / "schemas"
NAMES = ("sli", "burn-rate", "budget", "status", "certificate", "sketch", "dead-letter")
TOPICS = {name: name for name in NAMES} | {"sketch": "sli", "dead-letter": "deadletter"}


@lru_cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / "topics" / f"{name}.v1.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@lru_cache
def outputs() -> tuple[Output, ...]:
    """Returns what the scenario puts out, but for what it takes back: that is no event."""
    return tuple(output for output in run(rich_log())[1] if not isinstance(output, StatusGone))


@lru_cache
def rendered() -> tuple[tuple[Rendered, dict], ...]:
    """Returns every event of the scenario as it is written and as a consumer parses it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    made = [render(output) for output in outputs()]
    return tuple((one, json.loads(one.value, parse_constant=refuse)) for one in made)


def name_of(event: dict) -> str:
    return str(event["type"]).removeprefix("qma.").removesuffix(".v1")


def test_every_event_fulfils_its_schema():
    for one, event in rendered():
        errors = [error.message for error in validator(name_of(event)).iter_errors(event)]
        assert not errors, (errors, one.value)


def test_the_scenario_has_every_kind_of_event_and_every_state():
    events = [event for _, event in rendered()]
    assert {name_of(event) for event in events} == set(NAMES)

    def values(name: str, field: str) -> set:
        return {event["data"][field] for event in events if name_of(event) == name}

    assert values("burn-rate", "state") == {"pending", "firing", "resolved"}
    assert values("certificate", "state") == {"pending", "issued", "revoked", "expired"}
    assert values("certificate", "trigger") >= {"evidence_suffices", "evidence_turned", "validity_ended", None}
    assert values("sli", "revision") == {0, 1}
    assert {"exemplars" in event["data"] for event in events if name_of(event) == "sli"} == {True, False}
    flags = [event["data"]["flags"] for event in events if name_of(event) == "sli"]
    for flag in ("no_data", "gap"):
        assert {f[flag] for f in flags} == {True, False}


def test_topic_and_key_are_those_of_the_contract():
    for one, event in rendered():
        assert one.topic == TOPICS[name_of(event)]
        assert one.key.decode() == event["subject"]


def test_ids_are_unique_within_a_run_and_the_same_in_another():
    ids = [event["id"] for _, event in rendered()]
    assert len(ids) == len(set(ids))
    again = Engine(0)
    second = [render(output) for offset, (t, v) in enumerate(rich_log()) for output in again.apply(offset, t, v)]
    assert [one for one in second if one.value] == [one for one, _ in rendered()]


def test_what_is_no_longer_configured_is_taken_back_under_its_key():
    taken_back = {one.key for one in map(render, run(rich_log())[1]) if not one.value}
    told = {one.key for one, event in rendered() if name_of(event) == "status"}
    assert taken_back
    assert taken_back <= told


def test_a_certificate_has_one_id_through_its_life():
    lives: dict[tuple[str, str, str], set[str]] = {}
    for _, event in rendered():
        if name_of(event) == "certificate":
            data = event["data"]
            lives.setdefault((data["service"], data["version"], data["policy"]), set()).add(data["certificate"])
    assert lives
    assert all(len(ids) == 1 for ids in lives.values())


def test_changes_of_alerts_and_certificates_are_urgent_and_restatements_are_not():
    for output, (_, event) in zip(outputs(), rendered(), strict=True):
        change = name_of(event) == "certificate" and event["data"]["state"] != event["data"]["before"]
        assert is_urgent(output) == (change or name_of(event) == "burn-rate")
    restated = [
        o for o in outputs() if isinstance(o, CertificateEvent) and o.before is CertificateState.PENDING is o.state
    ]
    assert restated


def examples(kind: str) -> list[Path]:
    return sorted(path for name in NAMES for path in (SCHEMAS / "conformance" / f"{name}.v1" / kind).glob("*.json"))


@pytest.mark.parametrize("path", examples("valid"), ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_valid_examples_are_accepted(path: Path):
    validator(path.parts[-3].removesuffix(".v1")).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", examples("invalid"), ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_invalid_examples_are_refused(path: Path):
    """The file's name begins with the keyword of the schema that refuses it."""
    errors = list(validator(path.parts[-3].removesuffix(".v1")).iter_errors(json.loads(path.read_text())))
    assert [error.validator for error in errors] == [path.stem.split(".")[0]]


def test_every_schema_has_examples_of_both_kinds():
    for kind in ("valid", "invalid"):
        assert {path.parts[-3] for path in examples(kind)} == {f"{name}.v1" for name in NAMES}
