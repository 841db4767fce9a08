"""GRCAM: Gradient-based Refined Class Activation Map (Hui et al., Pattern Recognition 2022)."""
