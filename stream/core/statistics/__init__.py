"""Statistics on counts of bad and total events: intervals for display, always-valid tests for decisions.

`intervals` answers "how uncertain is this ratio now" and holds at one horizon that was fixed beforehand;
looking again and again breaks it. `sequential` answers "may this be certified, or must it be revoked" and
holds at every look at once.
"""
