"""What the report shows, read from the parts of a run's folder: one file for each section of the page."""
