"""Reads the captured records in tests/golden/otlp."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[2] / "golden" / "otlp"
CAPTURES = ("app_default", "codec", "edge", "tgen")


def values(name: str) -> list[bytes]:
    """Returns the values of a capture's records in file order."""
    with gzip.open(GOLDEN / f"{name}.traces.jsonl.gz") as lines:
        return [base64.b64decode(json.loads(line)["value"]) for line in lines]


def json_values(name: str) -> list[bytes]:
    """Returns the values of a capture's records in OTLP/JSON, in file order."""
    with gzip.open(GOLDEN / f"{name}.otlp_json.traces.jsonl.gz") as lines:
        return [base64.b64decode(json.loads(line)["value"]) for line in lines]


def truth(name: str) -> dict[str, Any]:
    """Returns the totals that the capture's own tool counted."""
    totals: dict[str, Any] = json.loads((GOLDEN / f"{name}.traces.truth.json").read_text())
    return totals
