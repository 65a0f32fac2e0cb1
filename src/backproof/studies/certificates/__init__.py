"""Derivatives bounded for every weight in a box."""
