"""SPOL's second stage: MFF-Net trained for class maps, and the pseudo masks that are made of them."""
