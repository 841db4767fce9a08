"""Errors, files, processes, progress."""
