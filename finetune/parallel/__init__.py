"""Processes and devices that share a training."""
