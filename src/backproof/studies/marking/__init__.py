"""Marking hand-worked numbers and formulas."""
