"""The nodes of a run's graph: one function for each, from options and earlier artifacts to an artifact."""
