"""Predictions directories: written as a run goes, continued, read and checked."""
