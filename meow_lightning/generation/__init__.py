"""Greedy generation for many prompts at once: shared prefixes, paged keys and values, packed scoring."""
