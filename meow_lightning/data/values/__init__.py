"""Values in answers: their kinds, the generation of others of a kind, and the words that would reveal a fact."""
