"""Changes of preprocessed volumes [1, D, H, W] (frames, axial depth, lateral) that leave the eye what it is."""
