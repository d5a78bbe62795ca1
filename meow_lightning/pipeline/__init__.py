"""The graph of a run, built from resolved options, with its execution and its state."""
