"""What is in a dataset: facts to read before anyone trains on it."""
