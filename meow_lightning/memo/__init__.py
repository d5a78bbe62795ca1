"""MEMO: how strongly a model has memorised a text, measured by its continuations of the text's prefixes.

This package re-exports nothing: ``measure`` and ``select`` name modules as well as functions, and reading the settings
of a run must not import torch.
"""
