"""Objectives, their service level indicators and their burn-rate alerts."""
