"""GRCAM: Gradient-based Refined Class Activation Map (Hui et al., Pattern Recognition 2022)."""

import os

import common  # noqa: F401, before TensorFlow: a command that is stopped while it imports says so in a line

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: warnings and errors only
