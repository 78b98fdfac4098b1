"""Use the images: read shards, train and score fake-image detectors."""
