"""Images in, overlays out."""
