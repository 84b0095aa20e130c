"""The pure core: bytes in, values out. No I/O, no clock, no randomness; time is an argument in nanoseconds.

Data flows one way::

    otlp ─▶ columns ─▶ log ─▶ engine (cells, sketch, slo, certificate) ─▶ events
"""
