"""The seam to the accelerator: what runs the encoder, and in which precision."""
