"""GRCAM: Gradient-based Refined Class Activation Map (Hui et al., Pattern Recognition 2022)."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: warnings and errors only
