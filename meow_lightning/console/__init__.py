"""Terminal output: progress, plans, status."""
