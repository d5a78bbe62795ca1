"""What several stages share: loading, chunks of work, training, results taken over."""
