"""Certificates: one version of one service met its objectives, with a stated confidence, until a date."""
