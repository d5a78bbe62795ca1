"""Unlearning methods, one per file. A method declares the streams that it reads and computes the parts of its loss."""
