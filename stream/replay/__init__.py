"""What was published, held against the log it came from: the same fold again, and counts taken without it.

    shuffle log ─▶ fold ─▶ folded events ─┐
    output topics ──────▶ live events ────┴▶ comparison

It reads with plain consumers outside any group: nothing is written, committed or claimed.
"""
