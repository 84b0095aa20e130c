"""The demo: a seeded workload on a real Kafka, the product's own workers, and an independent ledger at the end."""

from stream.demo.options import DemoOptions
from stream.demo.run import run

__all__ = ["DemoOptions", "run"]
