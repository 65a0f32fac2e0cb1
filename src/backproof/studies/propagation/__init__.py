"""How signal and gradient go through a network."""
