"""End-to-end training in three stages, on top of what extract reads and classify judges."""
