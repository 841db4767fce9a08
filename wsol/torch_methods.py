"""The methods that run in PyTorch, as `wsol.localizer` asks for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common.datasets.known import imagenet_names
from common.measuring.extraction import LARGEST_COMPONENT
from common.measuring.geometry import SIDE, Frame, seen_kind
from common.measuring.protocols import BAS, GRCAM, SPOL
from common.pytorch import backbones, cam, checkpoints, maps
from common.pytorch.cam_classifier import CamClassifier
from common.pytorch.data import channels_first, frame_pixels, normalized
from common.pytorch.localization import Localizer, trained_side
from common.pytorch.maps.localize import enlarged
from common.pytorch.maps.reshape import Reshape
from common.pytorch.maps.tapping import scores_of
from common.pytorch.runtime import for_inference, pick_device
from common.runs.localizing import Box
from common.system.errors import UserError
from wsol.localizer import Seen, UprightReader


class ByLocalizer(UprightReader):
    """CAM or BAS: scores and features in one pass, maps of the features.

    Args:
        name, architecture, class_names, num_classes, box: see `wsol.localizer.Method`.
        of_label, of_choice: the method where a class is asked for, and where it chooses.
        device: where the networks are.
        sees: side of what the network sees of a frame of 224, as in its training.
    """

    def __init__(
        self, name: str, architecture: str, class_names: tuple[str, ...] | None, num_classes: int, box: Box,
        of_label: Localizer, of_choice: Localizer, device: torch.device, sees: int,
    ):  # fmt: skip
        self.name, self.architecture, self.class_names, self.num_classes = name, architecture, class_names, num_classes
        self.box, self.of_label, self.of_choice, self.device, self.sees = box, of_label, of_choice, device, sees

    @torch.no_grad()
    def look(self, images: Sequence[np.ndarray], kind: str, labels: Sequence[int] | None) -> list[Seen]:
        """See `wsol.localizer.Method`."""
        frames = _frames(images, kind)
        localizer = self.of_choice if labels is None else self.of_label
        seen = _frames(images, seen_kind(kind, self.sees))
        scores, features = localizer.look(_pixels(images, seen).to(self.device))
        wanted: Any = None if labels is None else torch.tensor(labels, device=self.device)
        raw = localizer.maps(features, scores, wanted).float().cpu().numpy()
        made = [localizer.enlarge(one, frame.size) for one, frame in zip(raw, frames, strict=True)]
        return _seen(frames, made, scores.softmax(dim=1))


@dataclass(frozen=True)
class Normalize:
    """Normalization of uint8 images (N, 3, H, W) RGB, as a network takes them; it can be sent to other processes.

    Attributes:
        mean, std: RGB, of images in [0, 1].
        device: where the network is.
        dtype: of its weights.
    """

    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    dtype: torch.dtype = torch.float32

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize images."""
        return normalized(images, self.mean, self.std, self.device).to(self.dtype)


class ByMaps(UprightReader):
    """CAM, Grad-CAM, DGL or GRCAM's refined map of any classifier, through `common.pytorch.maps`.

    Args:
        model: any classifier, in eval mode on `device`.
        name: the method.
        layer: a module's name, or its number from the last map down.
        normalize: uint8 (N, 3, H, W) RGB to what the network takes.
        side: of the network's input and of the map, instead of the frame's 224; None keeps the frame's.
        sees: side of what the network sees of a frame of 224, where `side` is None.
        reshape: see `common.pytorch.maps.reshape`.
        scores: takes the scores out of what the network returns.
        sigmoid: probabilities are each score's sigmoid, and not all scores' softmax.
        architecture, class_names, num_classes, device: as everywhere.
    """

    def __init__(
        self, model: nn.Module, name: str, layer: str | int | nn.Module, normalize: Callable[[Tensor], Tensor],
        device: torch.device, *, architecture: str, class_names: tuple[str, ...] | None, num_classes: int,
        side: int | None = None, sees: int = SIDE, reshape: Reshape | None = None,
        scores: Callable[[Any], Tensor] = scores_of, sigmoid: bool = False,
    ):  # fmt: skip
        self.mapper = maps.Mapper(model, (name,), (layer,), reshape=reshape, scores=scores)
        self.name, self.architecture, self.class_names, self.num_classes = name, architecture, class_names, num_classes
        self.normalize, self.device, self.side, self.sees, self.box = normalize, device, side, sees, BOXES[name]
        # A network of one score is a classifier of yes and no, whose probability is the score's sigmoid.
        self.sigmoid = sigmoid or num_classes == 1

    def look(self, images: Sequence[np.ndarray], kind: str, labels: Sequence[int] | None) -> list[Seen]:
        """See `wsol.localizer.Method`."""
        kind = kind if self.side is None else _scaled(kind, self.side)
        frames = _frames(images, kind)
        seen = frames if self.side is not None else _frames(images, seen_kind(kind, self.sees))
        wanted = None if labels is None else torch.tensor(labels, device=self.device)
        found = self.mapper(self.normalize(_pixels(images, seen).to(self.device)), wanted)
        _need_finite(found.scores)
        ((_, raw),) = found.maps.items()
        made = [enlarged(one, frame.size) for one, frame in zip(raw.float().cpu().numpy(), frames, strict=True)]
        return _seen(frames, made, found.scores.sigmoid() if self.sigmoid else found.scores.softmax(dim=1))


BOXES = {
    "cam": Box(LARGEST_COMPONENT, 0.2),
    "grad-cam": Box(GRCAM.extractor, 0.15),
    "dgl": Box(GRCAM.extractor, 0.15),
    "grcam": Box(GRCAM.extractor, 1 - 0.9),
}
"""Rules for boxes, as each method's own command stores them."""


class Spol(UprightReader):
    """SPOL's segmentation of the foreground, with a classifier beside it where one is given.

    Args:
        checkpoint: of stage seg.
        classifier: of stage cls, or `imagenet:<arch>`, or None.
        recipe: whose released threshold, `cub` or `imagenet`; None for that of the checkpoint's own training.
        device: where it runs.
    """

    name = "spol"

    @torch.inference_mode(False)
    def __init__(
        self, checkpoint: Path, classifier: str | None, recipe: Literal["cub", "imagenet"] | None, device: str
    ):
        from spol.localize import LocalizeImages, Predictor

        options = LocalizeImages((), checkpoint, Path(), classifier, recipe, device=device)
        self.predictor = Predictor(options)
        self.architecture = self.predictor.loaded.backbone
        known = self.predictor.classifier
        self.class_names = known.class_names if known else None
        self.num_classes = _outputs(known.network) if known else None
        self.box = Box(SPOL.extractor, self.predictor.threshold)

    def look(self, images: Sequence[np.ndarray], kind: str, _labels: Sequence[int] | None) -> list[Seen]:
        """See `wsol.localizer.Method`."""
        frames = _frames(images, kind)
        return [
            Seen(frame, probability, self.predictor.probabilities(image))
            for image, frame, probability in zip(images, frames, self.predictor.foregrounds(images, kind), strict=True)
        ]


def _outputs(network: nn.Module) -> int:
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1].out_features


@torch.inference_mode(False)
def bas(path: Path, top_k: int | None, arch: str | None, variant: str | None, device: str) -> ByLocalizer:
    """Load a BAS network with the released threshold of its backbone and data set.

    Raises:
        UserError: no such checkpoint, or none of BAS.
    """
    from bas import weights
    from bas.config import recipe
    from bas.inference import BasLocalizer

    where = pick_device(device)
    loaded = weights.load(path, arch, variant)
    released = recipe(loaded.variant, "ilsvrc" if loaded.network.num_classes == 1000 else "cub", loaded.arch)
    network = for_inference(loaded.network.float(), where)
    choice = BasLocalizer(network, (released.top_k or 1) if top_k is None else top_k)
    box = Box(BAS.extractor, released.threshold)
    return ByLocalizer(
        "bas", loaded.arch, loaded.class_names, network.num_classes, box, BasLocalizer(network, None), choice, where,
        loaded.record.get("input_size", SIDE),
    )  # fmt: skip


@torch.inference_mode(False)
def of_classifier(checkpoint: str, method: str, layer: str | int, device: str) -> ByLocalizer | ByMaps:
    """Load one of CAM's classifiers, a final.pth of its training or `imagenet:<arch>`, for a method that needs no more.

    Raises:
        UserError: no such checkpoint, or one of something else.
    """
    where = pick_device(device)
    model, architecture, names, side = _opened(checkpoint)
    for_inference(model.float(), where)  # whatever torch's default is
    count = model.head.out_features
    if method == "cam" and layer in (0, "0"):
        of_label, of_choice = cam.CamLocalizer(model, "label"), cam.CamLocalizer(model, "predicted")
        return ByLocalizer("cam", architecture, names, count, BOXES["cam"], of_label, of_choice, where, side)

    normalize = Normalize(model.mean, model.std, where)
    return ByMaps(
        model, method, layer, normalize, where, architecture=architecture, class_names=names, num_classes=count,
        sees=side,
    )  # fmt: skip


KINDS = {"cam": "cam", "bas": "bas", "spol-seg": "spol"}
"""The method that a checkpoint of ours is for, by what it says that it is."""


def method_of(checkpoint: str) -> str:
    """Say which method a checkpoint is for: one of ours says so, an authors' is known by its tensors' names.

    Raises:
        UserError: no such checkpoint, or one that says nothing.
    """
    if checkpoint.startswith("imagenet:"):
        return "cam"
    path = Path(checkpoint)
    content = checkpoints.read(path)
    config = content.get("config") if isinstance(content, dict) else None
    if isinstance(config, dict):
        kind = str(config.get("method"))
        if kind in KINDS:
            return KINDS[kind]
        raise UserError(f"a checkpoint of {kind!r}", where=path, expected=f"one of {', '.join(KINDS)}")
    state = checkpoints.read_state_dict(path)
    if any(name.removeprefix("module.").startswith("classifier_loc.") for name in state):
        return "bas"
    raise UserError(
        "the file does not say which method or network it is of", where=path,
        do="say method (--method); for a classifier of your own, arch (--arch) as timm:<name>, torchvision:<name> or "
        "module:function, and class_names (--class-names)",
    )  # fmt: skip


def _opened(checkpoint: str) -> tuple[CamClassifier, str, tuple[str, ...] | None, int]:
    """A classifier, its architecture, its classes, and the side of what it sees of a frame of 224."""
    if checkpoint.startswith("imagenet:"):
        architecture = checkpoint.removeprefix("imagenet:")
        model = backbones.imagenet(architecture)
        fixed: Any = getattr(model.features, "fixed_size", None)
        return model, architecture, imagenet_names(), fixed[0] if fixed else SIDE
    path = Path(checkpoint)
    config, state = checkpoints.read_trained(path, cam.METHOD)
    checkpoints.need(config, path, "architecture", "class_names")
    model = backbones.build(config["architecture"], len(config["class_names"]), pretrained=False)
    checkpoints.load_strictly(model, state, path)
    side = trained_side(config).get("input_size", SIDE)
    return model, config["architecture"], tuple(config["class_names"]), side


def _frames(images: Sequence[np.ndarray], kind: str) -> list[Frame]:
    return [Frame.of_kind(kind, image.shape[1::-1]) for image in images]


def _pixels(images: Sequence[np.ndarray], frames: Sequence[Frame]) -> Tensor:
    return torch.stack(
        [channels_first(frame_pixels(image, frame)) for image, frame in zip(images, frames, strict=True)]
    )


def _scaled(kind: str, side: int) -> str:
    """A frame's kind for a network whose input has another side than 224."""
    return f"resize {side}" if "crop" not in kind else f"resize {round(side * 256 / 224)} crop {side}"


def _seen(frames: Sequence[Frame], made: Sequence[np.ndarray], probabilities: Tensor) -> list[Seen]:
    _need_finite(probabilities)
    rows = probabilities.float().cpu().numpy()
    return [Seen(frame, one, row) for frame, one, row in zip(frames, made, rows, strict=True)]


def _need_finite(scores: Tensor) -> None:
    if not bool(torch.isfinite(scores).all()):
        raise UserError("the network gives no finite scores", do="check the checkpoint")
