"""What watches a training without changing it."""
