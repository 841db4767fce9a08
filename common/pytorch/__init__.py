"""What the PyTorch subprojects share; the only part of `common` that imports torch."""
