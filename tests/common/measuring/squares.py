"""Frames of 224 x 224, and maps that are 1 in a box and 0 elsewhere."""

import numpy as np

from common.measuring.geometry import Frame

SQUARE = Frame.squash((224, 224))
CROP = Frame.centre_crop((256, 256))


def frame_for(protocol, original):
    return Frame.of_kind(protocol.frame, original)


def box_map(x0, y0, x1, y1):
    picture = np.zeros((224, 224), np.float32)
    picture[y0:y1, x0:x1] = 1.0
    return picture
