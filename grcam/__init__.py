"""GRCAM: Gradient-based Refined Class Activation Map (Hui et al., Pattern Recognition 2022)."""

import dgl_tf  # noqa: F401, it says how TensorFlow is to be imported, and imports none itself
