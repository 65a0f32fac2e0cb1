"""Several optimizers on one loss, each at its own best rate."""
