"""SPOL: Shallow Feature Matters for Weakly Supervised Object Localization (Wei et al., CVPR 2021)."""
