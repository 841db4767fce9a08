"""Shared parts of the PyTorch subprojects; the only part of `common` that imports torch."""
