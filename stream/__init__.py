"""QMA Stream: OpenTelemetry from Kafka in; SLI, error-budget burn-rate and certificate-change events out."""

__version__ = "0.1.0"
