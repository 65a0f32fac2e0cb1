"""Settings and learning rates, found by trying."""
