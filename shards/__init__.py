"""How it is stored: shards, the commit log that makes them a dataset, and the ways to read, check and tidy it."""
