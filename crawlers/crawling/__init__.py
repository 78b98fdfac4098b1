"""From the hub's listing to a frozen catalog, killed and taken up again at will."""
