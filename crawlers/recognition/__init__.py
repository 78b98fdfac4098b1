"""What a repo is: its packaging, class, weights, base and lineage, and whether it can be sampled."""
