"""Measurements of what is fast: one script a claim."""
