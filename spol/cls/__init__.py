"""SPOL's first stage: a classifier of its own, whose verdicts alone are used."""
