"""Step 1's network in PyTorch: the same checkpoints as `grcam.classifier` takes, the same maps, without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from common.pytorch import twins
from common.pytorch.cam_classifier import CamClassifier
from common.pytorch.maps.cam import class_activation
from common.pytorch.maps.refined import refined
from common.pytorch.runtime import for_inference, pick_device
from common.tensorflow_files import converted
from common.tensorflow_files.checkpoint import open_checkpoint
from grcam.config import LABEL_FACTOR
from grcam.views import Layout, Seen


class TorchClassifier:
    """A network with its weights, on a device; arguments, attributes and errors as `grcam.classifier.Classifier`.

    Args:
        mode, checkpoint, kind, factor: as there.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(
        self,
        mode: str,
        checkpoint: Path | str,
        kind: str = "released",
        factor: float = LABEL_FACTOR,
        device: str = "auto",
    ):
        self.path, self.kind, self.factor = checkpoint, kind, factor
        opened, self.side = open_checkpoint(checkpoint), converted.read(checkpoint).input_size
        self.device = pick_device(device)
        self.model: CamClassifier = for_inference(twins.load(opened, mode), self.device)
        self.classes = self.model.head.out_features
        self.record = {"name": opened.name, "sha256": opened.fingerprint()}

    @torch.inference_mode()
    def look(self, images: Sequence[np.ndarray], labels: Sequence[int], layout: Layout) -> list[Seen]:
        """Classify images and map their true classes, one image's views in one pass; see `Classifier.look`."""
        return [self._look(views, label, layout) for views, label in zip(images, labels, strict=True)]

    def _look(self, views: np.ndarray, label: int, layout: Layout) -> Seen:
        mean, std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in self.scale)
        pixels = torch.from_numpy(np.ascontiguousarray(views.transpose(0, 3, 1, 2))).to(self.device)
        scores, features = self.model(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))
        probabilities = scores[layout.classified].softmax(dim=1).mean(dim=0)
        mapped = list(layout.mapped)
        maps = closed_form(
            self.model.head.weight, features[mapped], scores[mapped], torch.full((len(mapped),), label), self.kind,
            self.factor,
        )  # fmt: skip
        return Seen(*(values.cpu().numpy() for values in (probabilities, *maps)))

    @property
    def scale(self) -> tuple[list[float], list[float]]:
        """Mean and deviation, RGB, of pixels in [0, 255]."""
        return [255 * value for value in self.model.mean], [255 * value for value in self.model.std]


def closed_form(
    weights: Tensor,
    features: Tensor,
    scores: Tensor,
    labels: Tensor,
    kind: str = "released",
    factor: float = LABEL_FACTOR,
) -> tuple[Tensor, Tensor]:
    """GRCAM's refined map and CAM (N, h, w), whose two gradients are known; the equations are `grcam.graph`'s.

    Args:
        weights: W (K, C) of the linear layer.
        features: F (N, C, h, w), after its ReLU.
        scores: z (N, K).
        labels: (N,) int.
        kind: `released` or `true`, the loss's gradient (quirk Q1).
        factor: of the label.
    """
    likely, target = scores.softmax(dim=1), one_hot(labels.to(scores.device), scores.shape[1])
    delta = likely - factor * target if kind == "released" else factor * (likely - target)
    positions = features.shape[2] * features.shape[3]
    gradient, selection = (
        (vector.to(weights.dtype) @ weights / positions)[:, :, None, None].expand_as(features)
        for vector in (delta, target)
    )
    return refined(features, gradient, selection), class_activation(features, selection)
