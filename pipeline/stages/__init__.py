"""The stages of a run, in order: crawl, caption, sample, audit, train, evaluate. Each does only what is missing."""
