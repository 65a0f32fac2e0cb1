"""Watch a user's own training loop."""
