"""The demo's objectives, from the OpenSLO files that come with it, and the configuration made of them."""

from __future__ import annotations

import contextlib
import time
from importlib import resources
from pathlib import Path

from stream.config.bundle import make_bundle
from stream.config.openslo import load_configuration
from stream.core.slo.spec import Bundle, Settings, Source
from stream.core.units import MINUTE_NS
from stream.demo.workload import Topics

CATCHING_UP_AFTER_S = 120.0
DUPLICATE_MINUTES = 10
"""Both on the wall clock, as everywhere; in event time they are as many times longer as event time runs faster."""


def write_slo_files(directory: Path) -> list[Path]:
    """Copies the demo's OpenSLO files to a directory, where the user can read and edit them. Returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        package = stack.enter_context(resources.as_file(resources.files("stream.demo") / "slo"))
        return [
            _copied(source, directory / source.name) for source in sorted(package.iterdir()) if source.suffix == ".yaml"
        ]


def _copied(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


def demo_bundle(
    files: list[Path], topics: Topics, *, prefix: str, pipeline: str, generation: str, speed: float
) -> Bundle:
    """Returns the configuration of the demo's pipeline.

    Args:
        files: OpenSLO files.
        topics: The source topics; the log has as many partitions.
        prefix: What the names of our topics begin with.
        pipeline: Name of the pipeline.
        generation: Its generation.
        speed: Seconds of event time in a second.

    Raises:
        ConfigError: A file is not valid.
    """
    configuration = load_configuration(files, now_ns=time.time_ns())
    return make_bundle(
        configuration.objectives,
        previous=None,
        pipeline=pipeline,
        generation=generation,
        partitions=topics.partitions,
        prefix=prefix,
        sources=(
            Source(topic=topics.spans, encoding="otlp_proto"),
            Source(topic=topics.events, encoding="flat"),
            Source(topic=topics.metrics, encoding="otlp_proto", signal="metrics"),
            Source(topic=topics.logs, encoding="otlp_json", signal="logs"),
        ),
        settings=Settings(
            catching_up_after_ns=max(2 * MINUTE_NS, round(CATCHING_UP_AFTER_S * speed * 1e9)),
            duplicate_minutes=max(DUPLICATE_MINUTES, round(DUPLICATE_MINUTES * speed)),
        ),
        calendars=configuration.calendars,
        adjustments=configuration.adjustments,
        mutes=configuration.mutes,
    )
