"""Partial reads: of a volume, only the header and the frames that its depth interpolation touches."""
