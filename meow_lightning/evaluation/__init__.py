"""What a model says, turned into numbers: stored rows, the metrics on them and the suite that reports them."""
