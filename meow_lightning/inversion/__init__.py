"""Answers that contradict the true one: written by rules or read from a file, and cleaned the same way."""
