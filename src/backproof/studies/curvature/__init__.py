"""How sharply the loss curves, and which learning rates that allows."""
