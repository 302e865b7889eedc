"""A finished run: its folder, its record, its predictions, and what earlier runs know."""
