"""Values in answers: their kinds, how others of a kind are made, and which words would give a fact away."""
