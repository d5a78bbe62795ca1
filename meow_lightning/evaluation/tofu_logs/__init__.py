"""Evaluation logs of TOFU's code and of open-unlearning: readers and writers."""
