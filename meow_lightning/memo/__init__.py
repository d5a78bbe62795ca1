"""MEMO: how strongly a model holds a text, measured by what it makes of the text's beginning.

Nothing is re-exported here: ``measure`` and ``select`` name modules as well as functions, and reading the settings of a
run must not wait for torch.
"""
