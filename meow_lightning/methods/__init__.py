"""Unlearning methods, one per file. A method says which streams it reads and gives the parts of its loss."""
