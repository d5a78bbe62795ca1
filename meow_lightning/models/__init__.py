"""Models, created from scratch or loaded, with their tokenizers; always saved as plain Hugging Face folders."""
