"""DGL: Dual-Gradients Localization (Tan et al., ACM MM 2020)."""

import importlib
import importlib.util
import os
import sys

import common  # noqa: F401, before TensorFlow: a command that is stopped while it imports says so in a line

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: warnings and errors only
# tensorpack's layers, which nothing here uses, are Keras 2's: TensorFlow's own up to 2.15, tf_keras with a newer one.
os.environ["TF_USE_LEGACY_KERAS"] = "1" if importlib.util.find_spec("tf_keras") else "0"

# TensorFlow from 2.16 on and triton, which PyTorch loads, hold an LLVM each. Where TensorFlow's comes first the process
# dies, such as that of one who loads a DGL and a PyTorch method.
if "tensorflow" not in sys.modules and importlib.util.find_spec("triton") is not None:
    importlib.import_module("triton")
