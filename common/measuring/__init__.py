"""Boxes, frames, protocols and metrics: numpy and OpenCV, no data set and no folder."""
