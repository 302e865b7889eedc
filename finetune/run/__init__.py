"""What a run begins with, where it keeps it, and what its record says."""
