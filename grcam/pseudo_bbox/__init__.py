"""GRCAM's steps 2 and 3: groups of images of one predicted class, and a pseudo box for each image from its group."""
