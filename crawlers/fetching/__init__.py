"""Bring models to this machine: planned, verified, shared, ahead of time and within a budget."""
