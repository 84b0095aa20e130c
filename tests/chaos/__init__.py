"""Chaos on a real Kafka: workers are killed and frozen, the broker is killed, the group is rebalanced, nothing may
be lost or counted twice.

`python -m tests.chaos --seed 3 --kills 12` (`make chaos ARGS='…'`) runs one seed, `--seeds 1..5` several. The load
keeps a ledger of its own of what the broker acknowledged; at the end the checkpoints, the outputs and the shuffle
log are compared with it and with each other.
"""
