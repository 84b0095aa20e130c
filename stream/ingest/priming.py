"""Makes the machine code of decoders: `python -m stream.ingest.priming SPAN/otlp_proto …` compiles into the cache on
disk; in a process that finds it there, `prime` loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.config.kernel_cache import compiling_alone, forget_kernels, use_kernel_cache
from stream.core.columns import Signal
from stream.core.otlp import Messages, Reading
from stream.core.otlp.decoders import DECODERS, Encoding

Format = tuple[Signal, Encoding]

_TIME = 1_700_000_000_000_000_000
_READING = Reading(attributes=("http.route",))


def prime(formats: Iterable[Format]) -> None:
    """Runs the compiled decoders of these formats once, so that the next call finds machine code."""
    use_kernel_cache()
    for signal, encoding in formats:
        decoded = DECODERS[signal, encoding].load_compiled()(Messages.of([_sample(signal, encoding)]), _READING)
        assert len(decoded.rows) + len(decoded.points), (signal, encoding)


def names_of(formats: Iterable[Format]) -> list[str]:
    """Returns the formats as `prime`'s process is told of them."""
    return [f"{signal.name}/{encoding.value}" for signal, encoding in formats]


def _format(name: str) -> Format:
    signal, _, encoding = name.partition("/")
    return Signal[signal], Encoding(encoding)


def _sample(signal: Signal, encoding: Encoding) -> bytes:
    """Returns a message of one item."""
    if signal == Signal.EVENT:
        return orjson.dumps({"service": "a", "time": _TIME})
    if encoding == Encoding.OTLP_JSON:
        return orjson.dumps(_JSON[signal])
    return _request(signal).SerializeToString()


def _request(signal: Signal) -> ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest:
    if signal == Signal.METRIC:
        metrics = ExportMetricsServiceRequest()
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
        metric.gauge.data_points.add(time_unix_nano=_TIME, as_int=1)
        return metrics
    if signal == Signal.LOG:
        logs = ExportLogsServiceRequest()
        logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=_TIME)
        return logs
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add(end_time_unix_nano=_TIME)
    return traces


_JSON = {
    Signal.SPAN: {"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": str(_TIME)}]}]}]},
    Signal.LOG: {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": str(_TIME)}]}]}]},
    Signal.METRIC: {
        "resourceMetrics": [
            {
                "scopeMetrics": [
                    {"metrics": [{"name": "a", "gauge": {"dataPoints": [{"timeUnixNano": str(_TIME), "asInt": "1"}]}}]}
                ]
            }
        ]
    },
}


def main(names: Sequence[str]) -> None:
    """Compiles the decoders of the formats with these names, one process at a time."""
    formats = [_format(name) for name in names]
    directory = use_kernel_cache()
    with compiling_alone(directory):
        try:
            prime(formats)
        except Exception:  # numba raises whatever a damaged file makes it raise
            forget_kernels(directory)
            prime(formats)


if __name__ == "__main__":
    main(sys.argv[1:])
