"""The nodes of the graph: models, unlearning, and where models come from."""
