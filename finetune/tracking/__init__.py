"""Trackers: how MLflow and W&B are opened and written to, by finished runs and by a training that is under way."""
