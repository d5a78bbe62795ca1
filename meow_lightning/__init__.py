"""MEOW-lightning: make a language model forget facts without wrecking it, and prove what happened."""
