"""DGL: Dual-Gradients Localization (Tan et al., ACM MM 2020)."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: warnings and errors only
