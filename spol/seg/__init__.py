"""SPOL's third stage: MFF-Net trained on pseudo masks to segment the foreground, whose box is the localization."""
