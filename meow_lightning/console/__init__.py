"""What the terminal shows: progress, plans, status."""
