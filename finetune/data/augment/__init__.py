"""Augmentation in training: drawn by volume and epoch, mixing with labels, and a look at what it does."""
