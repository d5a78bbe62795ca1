"""Metrics, one file each: a pure function of stored rows, with its definition."""
