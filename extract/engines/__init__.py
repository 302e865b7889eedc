"""The seam to whoever does the work of a pass over the bucket: this machine's threads, or a cluster."""
