"""Ingest: reads the sources in cycles, decodes them to columns and routes them into the shuffle log.

`cycle` is pure; `configuration`, `sources` and `process` are the shell around it.
"""
