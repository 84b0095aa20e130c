"""Settings: changed one by one, put back, and refused with the range."""

from __future__ import annotations

import pytest

from stream.config.tuning import RANGES, tuned
from stream.core.errors import ConfigError
from stream.core.slo.spec import Settings
from stream.core.units import SECOND_NS


@pytest.mark.parametrize("name", RANGES)
def test_every_setting_takes_the_bounds_of_its_range_and_goes_back_to_its_default(name: str) -> None:
    for value in RANGES[name]:
        changed = tuned(Settings(), [f"{name}={value}"])
        place = changed.limits if name.startswith("limits.") else changed
        if name.endswith("_s"):
            assert getattr(place, name.removesuffix("_s") + "_ns") == value * SECOND_NS
        else:
            assert getattr(place, name.removeprefix("limits.")) == value
        assert tuned(changed, [f"{name}=default"]) == Settings()
    for value in (RANGES[name][0] - 1, RANGES[name][1] + 1):
        with pytest.raises(ConfigError, match=f"write a whole number from {RANGES[name][0]} to {RANGES[name][1]}"):
            tuned(Settings(), [f"{name}={value}"])


def test_changes_keep_one_another_and_the_last_of_a_name_holds() -> None:
    changed = tuned(Settings(publish_sketches=True), ["limits.items=7", "limits.depth=8", "limits.items=9"])
    assert (changed.limits.items, changed.limits.depth, changed.publish_sketches) == (9, 8, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("duplicate_minutes", "write NAME=VALUE"),
        ("duplicate_minute=3", "did you mean `duplicate_minutes`?"),
        ("limits.item=3", "did you mean `limits.items`?"),
        ("colour=red", "settings are allowed_lateness_s, "),
        ("duplicate_minutes=", "write a whole number from 0 to 60"),
        ("duplicate_minutes=1.5", "write a whole number from 0 to 60"),
        ("duplicate_minutes=\u0663", "write a whole number from 0 to 60"),
    ],
)
def test_other_changes_are_refused_with_the_fix(change: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tuned(Settings(), [change])
    assert words in str(caught.value)
