"""Functions of the library; ``import meow_lightning as meow`` provides them by name."""
