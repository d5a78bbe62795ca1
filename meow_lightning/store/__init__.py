"""Results by the hash of what made them: atomic, shared, verified."""
