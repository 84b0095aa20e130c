"""What was published, held against the log it came from: the same fold again, and counts taken without it.

    shuffle log ─▶ fold ─▶ folded events ─┐
    output topics ──────▶ live events ────┴▶ comparison

It reads with plain consumers outside any group: nothing is committed or claimed. Only a backfill writes: what an
objective that came later has not counted of the sources goes to the log as a section of its own.
"""
