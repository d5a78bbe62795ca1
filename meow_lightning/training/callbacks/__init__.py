"""Callbacks that observe a training without changing it."""
