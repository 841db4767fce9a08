"""What is fast, measured: one script a claim."""
