"""Find generators: the only package that speaks to the hub."""
