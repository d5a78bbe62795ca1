"""Evaluation as other code bases compute it: prompts, generation, arithmetic."""
