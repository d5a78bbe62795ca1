"""Streams of a method: how the rows of each are built from a dataset, one builder per file."""
