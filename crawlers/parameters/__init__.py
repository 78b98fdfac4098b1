"""How a stranger's model wants to be called, and who said so."""
