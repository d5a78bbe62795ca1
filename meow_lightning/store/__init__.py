"""Results addressed by the hash of their inputs: atomic, shared, verified."""
