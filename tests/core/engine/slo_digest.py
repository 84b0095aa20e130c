"""Prints the SHA-256 of the outputs of a log with every way to keep a budget; run under several hash seeds."""

import hashlib
from dataclasses import replace

from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment, Mute
from stream.core.slo.spec import BudgetingMethod, EmptySlice, Slices
from tests.core.engine.log_writer import T0_NS, LogWriter, bundle, minute_by_minute, objective, steady
from tests.core.engine.slo_oracle import ALERTING, T0, fold

NAMES = ("a", "b", "c", "d")


def log() -> list[tuple[int, bytes]]:
    """Returns two hours of four objectives, an outage with a new version, adjustments, mutes and an edit."""
    slices = Slices(minutes=5, target="0.9", empty=EmptySlice.BAD)
    slos = (
        objective("a", window_minutes=100, alerting=replace(ALERTING, deploy_mute_minutes=10)),
        objective("b", window_minutes=60, calendar="c", alerting=ALERTING),
        objective("c", window_minutes=60, method=BudgetingMethod.TIMESLICES, slices=slices, alerting=ALERTING),
        objective("d", window_minutes=60, versions=("v2", "v1"), certified=False, alerting=ALERTING),
    )
    body = replace(
        bundle(*slos),
        calendars=(Calendar(name="c", boundaries=(T0 - 7, T0 + 50, T0 + 110, T0 + 200)),),
        adjustments=tuple(
            Adjustment(name=f"x{i}", objectives=NAMES[i:], start_minute=T0 + 20 + i, end_minute=T0 + 40)
            for i in range(3)
        ),
        mutes=(Mute(name="m", services=(), start_minute=T0 + 30, end_minute=T0 + 60),),
    )
    writer = LogWriter(body)
    minute_by_minute(writer, [*steady(30, 5), *steady(15, 5, start=30, bad_every=1, version="v2")])
    writer.bundle, writer.config_version = replace(body, objectives=slos[1:], mutes=()), 1
    writer.record(configure=True, now_ns=T0_NS)
    minute_by_minute(writer, steady(75, 5, start=45, bad_every=3, version="v3"), start=45)
    return writer.log


if __name__ == "__main__":
    seen = hashlib.sha256()
    for value in fold(log())[1]:
        seen.update((value or b"") + b"\0")
    print(seen.hexdigest())
