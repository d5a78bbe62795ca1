"""Attacks on a finished model, its prompts or its hidden states, or by extraction, one file each."""
