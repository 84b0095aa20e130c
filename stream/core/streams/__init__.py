"""Metric streams: what each data point adds to a counter, given the point before it in its stream.

A stream is one time series of one process: resource, scope, metric and attributes. A *delta* point says what happened
in its window; a *cumulative* one what happened since a start, so the point before it is subtracted. What a step adds
depends on no other stream and on no batching: `MetricStreams.apply` may be given the points of a log in any pieces.

* Delta: windows are (start, time]. A window seen before is a duplicate; one that overlaps another has a second writer
  and is refused. `WINDOWS_KEPT` windows are remembered, so that points may come in any order within them; what is
  older is late. A point without a start has an empty window at its time.
* Cumulative, same start: the difference. A later start is a true reset: all of the value. Start = time is a reset
  whose start nobody knows: nothing, and the next point has a baseline. Without a start, a value that falls is a reset;
  with one, the writer broke its promise, and the point becomes a baseline. An earlier start than the stream's is a
  second writer and refused. A point that is not newer than the last is a duplicate (same start and time) or late:
  the difference after it holds all that it would have added.
* The first point of a stream counts in full when its start says that nothing of it was ever counted or missed;
  otherwise, and always at a cold start, it is a baseline.
* Bounds that change, or a zero threshold, are a reset without a known start: a baseline. An exponential histogram is
  downscaled to the coarser of the two scales before the difference.
* A point without a recorded value closes its stream: the next one with the same start is a baseline again.

Source: opentelemetry-specification, metrics/data-model.md.
"""

from stream.core.streams.memory import IDLE_NS, KNOWN_NS, WINDOWS_KEPT, StreamMemory
from stream.core.streams.steps import Effect, MetricStreams, Outcome, Steps
from stream.core.streams.thresholds import UNIT_NS, Within, within

__all__ = (
    "IDLE_NS",
    "KNOWN_NS",
    "UNIT_NS",
    "WINDOWS_KEPT",
    "Effect",
    "MetricStreams",
    "Outcome",
    "Steps",
    "StreamMemory",
    "Within",
    "within",
)
