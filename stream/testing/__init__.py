"""The pipeline in one process, without a broker: a partitioned log with transactions, and a seeded simulator.

>>> simulate(7).failures
()
"""

from stream.testing.processes import Mutation
from stream.testing.simulator import WITH_COMPOSITES, Outcome, Scenario, simulate

__all__ = ["WITH_COMPOSITES", "Mutation", "Outcome", "Scenario", "simulate"]
