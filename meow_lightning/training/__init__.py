"""Training with PyTorch Lightning: module, data, loop, optimizers, callbacks."""
