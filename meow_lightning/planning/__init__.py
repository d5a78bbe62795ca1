"""Estimates of the memory, disk space and time of a run, and the preflight that checks them before it starts."""
