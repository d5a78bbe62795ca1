"""From resolved options to artifacts: the graph of a run, its execution, its state."""
