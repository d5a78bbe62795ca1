"""Models: made from scratch or loaded, always with their tokenizer, always saved as plain Hugging Face folders."""
