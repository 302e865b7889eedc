"""What is trained: the encoder's blocks, the heads, and a finished model to ask."""
