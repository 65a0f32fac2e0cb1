"""Gradients as formulas: the derivation, its page, and what confirms it."""
