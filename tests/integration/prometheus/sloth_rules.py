"""Alert rules of the shape that Sloth generates: a page and a ticket, each of two pairs of windows.

Source: slok/sloth, examples/_gen and internal/plugin/slo/core/alert_rules_v1, windows of 30 days.
"""

from __future__ import annotations

import json
from typing import Any

_PAIRS = {
    "page": (("5m", "1h", 14.4), ("30m", "6h", 6)),
    "ticket": (("2h", "1d", 3), ("6h", "3d", 1)),
}


def rule_group(service: str, slo: str, error_budget: float) -> dict[str, Any]:
    """Returns the alerts of one SLO."""
    matcher = f'{{sloth_id="{service}-{slo}",sloth_service="{service}",sloth_slo="{slo}"}}'

    def burns(window: str, factor: float) -> str:
        return f"max(slo:sli_error:ratio_rate{window}{matcher} > ({factor} * {error_budget})) without (sloth_window)"

    def alert(severity: str) -> dict[str, Any]:
        pairs = [f"({burns(short, factor)} and {burns(long, factor)})" for short, long, factor in _PAIRS[severity]]
        title = f"({severity}) {{{{$labels.sloth_service}}}} {{{{$labels.sloth_slo}}}} burns its error budget too fast."
        return {
            "alert": f"{slo}-burns",
            "expr": " or ".join(pairs),
            "labels": {"sloth_severity": severity},
            "annotations": {"title": title},
        }

    return {"name": f"sloth-slo-alerts-{service}-{slo}", "rules": [alert("page"), alert("ticket")]}


def rules_file(*groups: dict[str, Any]) -> str:
    """Returns a rules file; JSON is YAML."""
    return json.dumps({"groups": groups})
