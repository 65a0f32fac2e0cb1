"""Analyses that a problem may ask for beside its record."""
