"""Choosing parameters inside train: folds, spaces, and the search over them."""
