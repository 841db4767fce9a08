"""DGL: Dual-Gradients Localization (Tan et al., ACM MM 2020)."""
