"""BAS: Background Activation Suppression for Weakly Supervised Object Localization (Wu et al., CVPR 2022)."""
