"""Make images: one file per kind of generator; receives local folders, never speaks to the hub."""
