"""SPOL: Shallow Feature Matters for Weakly Supervised Object Localization (Wei et al., CVPR 2021)."""

import common  # noqa: F401, before PyTorch: a command that is stopped while it imports says so in a line
