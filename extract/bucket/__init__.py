"""The bucket: what lies in it, and the bytes of each object."""
