"""Attacks: transformations of a finished model that test whether what it unlearned comes back, one file each."""
