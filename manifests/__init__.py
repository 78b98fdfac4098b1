"""What exists: typed specs of generators, real sources and evaluation sets, and the YAML that names them."""
