"""Inverted facts, answers that contradict the true one: written by rules, a file or a model, then filtered."""
