"""Augmentation of preprocessed volumes [1, D, H, W]: frames, axial depth, lateral. Seeded by volume and epoch."""
