"""Checkpoints of TensorFlow's networks, read without TensorFlow, so that PyTorch code takes the authors' files too."""
