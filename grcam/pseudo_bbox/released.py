"""The pseudo boxes of GRCAM's release, its mistakes included: `--pseudo released`.

Four things differ from `grcam.pseudo_bbox.descriptors`, and each is a row of the README's quirks table: the network
stays in training mode, so that batch norm sees the group's statistics and then each image's own (Q4); a picture's
bytes, row after row with its three colours side by side, are taken for three pictures one after another (Q5); so are
the features' (Q6); and the two directions are rows of the matrix whose columns are the principal directions (Q7). The
score is cut to a byte without scaling (Q8).

Each principal direction's sign is free, and these rows mix all of them: the release gives other boxes on another
machine. Here every direction's largest component is positive, so that the boxes are the same everywhere, but they are
not those of the release. Given its own two rows, everything after them is equal to it.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from common.measuring.extraction import largest_contour
from grcam.config import SIDE
from grcam.pseudo_bbox.descriptors import in_frame

LEAST = 3
"""Images of a group; the release crashes with fewer (quirk Q11)."""
NOTHING = (0, 0, 0, 0)
"""The box where no byte is left."""


def group_mean(images: Sequence[np.ndarray]) -> np.ndarray:
    """Mean colour (3,) BGR float64: the mean over images (H, W, 3) RGB uint8 of each image's own mean."""
    return np.mean([image[..., ::-1].mean(axis=(0, 1)) for image in images], axis=0)


def network_input(image: np.ndarray, mean: np.ndarray) -> Tensor:
    """One image (H, W, 3) RGB uint8 as the network gets it: (3, 224, 224) float32, scrambled.

    The pixel (y, x) of colour channel c lies at 672 y + 3 x + c of a buffer that is read as three planes of 224 x 224.
    """
    squashed = cv2.resize(image[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy((squashed - mean).astype(np.float32)).reshape(3, SIDE, SIDE)


def feature_rows(features: Tensor) -> Tensor:
    """Feature maps (N, C, h, w) as (N h w, C): their memory cut into rows, not one row for each position."""
    return features.reshape(-1, features.shape[1])


def directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The first two rows (C,) of V, float64, where rows minus their mean = U S V^T.

    V comes from the covariance; the second centring, by an n x n matrix, changes nothing and is left out (quirk Q10).
    """
    centred = rows.double() - rows.double().mean(dim=0)
    v = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(dims=[1])
    largest = v.abs().argmax(dim=0)
    v = v * v[largest, torch.arange(v.shape[1])].sign()
    return v[0], v[1]


def score(features: Tensor, mean: Tensor, first: Tensor, second: Tensor) -> np.ndarray:
    """(h, w) float64: the mean of the projections of features (C, h, w) minus `mean` (C,) on two directions (C,)."""
    direction = ((first + second) / 2).to(features.dtype)
    return torch.einsum("chw,c->hw", features - mean[:, None, None], direction).double().numpy()


def cut_to_bytes(values: np.ndarray) -> np.ndarray:
    """Truncated towards zero and wrapped modulo 256, what a C cast does on x86-64; uint8."""
    return (np.trunc(values).astype(np.int64) % 256).astype(np.uint8)


def box_of_scores(scores: np.ndarray) -> tuple[int, int, int, int]:
    """The box x0 x1 y0 y1 of the largest contour where the enlarged score (h, w), cut to a byte, is not 0."""
    enlarged = cv2.resize(scores.astype(np.float64), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    found = largest_contour((cut_to_bytes(enlarged) > 0).astype(np.uint8))
    return in_frame(found[0]) if len(found) else NOTHING


@torch.no_grad()
def pseudo_boxes(
    images: Sequence[np.ndarray], network: nn.Module, device: torch.device, rows: tuple[Tensor, Tensor] | None = None
) -> list[tuple[int, int, int, int]]:
    """The boxes x0 x1 y0 y1 of a group's images.

    Args:
        images: three or more, (H, W, 3) RGB uint8; all go through the network at once, since batch norm sees them so.
        network: images (N, 3, 224, 224) to features (N, C, h, w); it is put in training mode.
        device: that it is on.
        rows: the two rows of V, where they are known.

    Raises:
        ValueError: fewer images.
    """
    if len(images) < LEAST:
        raise ValueError(f"{len(images)} images, and the release needs {LEAST}")
    network.train()
    mean = group_mean(images)
    inputs = torch.stack([network_input(image, mean) for image in images])
    cut = feature_rows(network(inputs.to(device)).cpu())
    first, second = directions(cut) if rows is None else rows
    boxes = []
    for picture in inputs:
        alone = network(picture[None].to(device))[0].cpu()
        boxes.append(box_of_scores(score(alone, cut.mean(dim=0), first, second)))
    return boxes
