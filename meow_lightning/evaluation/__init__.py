"""Evaluation: prediction rows, the metrics computed on them and the suite that reports them."""
