"""Metric tracking: W&B, CSV, or none."""
