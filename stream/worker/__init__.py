"""The Faust shell around the fold: which partitions are ours, what they read, and checkpoints that cannot be
torn.

`process` is the entry point, `app` the only module that imports Faust, `partitions` what is done with a
partition from its restore to its drop. Faust consumes, assigns and commits a hint; state lives in memory and in
`stream.kafka.state_store`.
"""
