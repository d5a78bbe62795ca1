"""Where metrics go: W&B, CSV, or nowhere."""
