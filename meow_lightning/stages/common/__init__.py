"""Code shared by several stages: loading, chunking, training, and results carried over from earlier rounds."""
