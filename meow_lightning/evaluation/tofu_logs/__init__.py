"""Evaluation logs in TOFU's published format: reader and writer."""
