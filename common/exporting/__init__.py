"""Data sets for detectors, made of predictions: images, and boxes with classes and scores, as trainers read them."""
