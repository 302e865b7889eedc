"""The volumes to learn from: read once, kept on disk, augmented, and fed in batches."""
