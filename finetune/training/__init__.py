"""Stages, epochs and steps, and the state that a killed run goes on from."""
