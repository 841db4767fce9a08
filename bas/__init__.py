"""BAS: Background Activation Suppression for Weakly Supervised Object Localization (Wu et al., CVPR 2022)."""

import common  # noqa: F401, before PyTorch: a command that is stopped while it imports says so in a line
