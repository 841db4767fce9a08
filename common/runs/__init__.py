"""Predictions directories: written, read, scored, compared."""
