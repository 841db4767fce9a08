"""Figures of this project itself, from generated maps, images and weights: what must not change unnoticed.

Each is a number or a list of numbers by name. They are no recordings of the papers' code; those are in `tests/golden`.
"""

import importlib.util
from collections.abc import Callable

import cv2
import numpy as np

from common.measuring.extraction import CUTS, ENDS, REGIONS, Extractor, min_max
from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import PROTOCOLS
from common.measuring.sweep import Sweep
from common.pictures.inputs import resize, ten_crops_of
from tests import fill

Figures = dict[str, float | list[float]]
SIZES = [(500, 375), (333, 500), (224, 224), (640, 200)]


def maps(count: int = 24) -> list[np.ndarray]:
    """Localization maps (224, 224) float32 like a network's: 14 x 14 noise and a bump, enlarged and stretched."""
    rng = np.random.RandomState(7)
    y, x = np.mgrid[:14, :14]
    found = []
    for _ in range(count):
        bump = np.exp(-(((y - rng.uniform(4, 10)) / 3) ** 2 + ((x - rng.uniform(4, 10)) / 4) ** 2))
        raw = (bump + 0.3 * rng.uniform(size=(14, 14))).astype(np.float32)
        found.append(min_max(cv2.resize(raw, (224, 224), interpolation=cv2.INTER_LINEAR)))
    return found


def truths(size: tuple[int, int], seed: int) -> np.ndarray:
    """One or two boxes (M, 4) in an image of `size` (width, height)."""
    rng = np.random.RandomState(seed)
    corners = rng.uniform(0, 1, (1 + seed % 2, 2, 2))
    return np.concatenate([corners.min(axis=1) * 0.5, 0.5 + corners.max(axis=1) * 0.5], axis=1) * [*size, *size]


def protocols(sweeping: bool = False) -> Figures:
    """GT-known, Top-1 and Top-5 at nine thresholds, and the best over all, under every protocol.

    Args:
        sweeping: by `Sweep`, as `common.evaluate` scores many images, and not box by box, as it scores few.
    """
    figures: Figures = {}
    for name, protocol in PROTOCOLS.items():
        evaluator = LocalizationEvaluator(protocol)
        for number, localization_map in enumerate(maps()):
            size = SIZES[number % len(SIZES)]
            frame = Frame.of_kind(protocol.frame, size)
            top5 = [number % 3, 7, 8, 1, 9]
            truth = truths(size, number)
            if sweeping:
                scores = Sweep(localization_map, [protocol]).scores(protocol, frame, truth)
                evaluator.accumulate_scores(scores, frame, number % 2, top5)
            else:
                evaluator.accumulate(localization_map, frame, truth, number % 2, top5)
        result = evaluator.compute()
        shown = np.linspace(0, len(result.thresholds) - 1, 9).astype(int)
        for accuracy in ("gt_known", "top1", "top5"):
            figures[f"{name}: {accuracy}"] = getattr(result, accuracy)[:, shown].ravel().tolist()
        figures[f"{name}: best"] = result.max_box_acc
    return figures


def boxes() -> Figures:
    """Sums of all boxes' coordinates over the maps and nine thresholds, by rule."""
    thresholds = np.arange(0.1, 1, 0.1)
    figures: Figures = {}
    for cut in CUTS:
        for region in REGIONS:
            for end in ENDS:
                extractor = Extractor(cut, region, end)
                found = [box for picture in maps() for each in extractor.boxes(picture, thresholds) for box in each]
                figures[f"boxes {cut}, {region}, {end}"] = [len(found), *np.sum(found, axis=0).tolist()]
    return figures


def resizes() -> Figures:
    """Sums of resized images, by library; one of ten crops'."""
    image = fill.image(90, 130, 3)
    figures: Figures = {
        f"resize {library}": resize(image, (64, 48), library).astype(np.float64).sum(axis=(0, 1)).tolist()
        for library in ("pillow", "opencv", "tensorflow1")
    }
    crops = ten_crops_of(fill.image(256, 256, 4), 224, "tensorflow1")
    return {**figures, "ten crops": crops.astype(np.float64).sum(axis=(1, 2, 3)).tolist()}


def bas() -> Figures:
    """BAS's scores, losses and map of each network of `CUB`."""
    import torch

    from bas.losses import total
    from tests.bas.filled import images, network

    figures: Figures = {}
    labels = torch.tensor([1, 4])
    for arch, side in (("vgg", 64), ("mobilenet", 64), ("resnet", 64), ("inception", 128)):
        made = network("CUB", arch, classes=6).eval()
        with torch.no_grad():
            output = made(images(2, 5, side), labels)
            losses = total(output, labels, made.variant, arch, 0.5, 1.0)
        figures[f"BAS {arch}: losses"] = [float(value) for value in losses.values()]
        figures[f"BAS {arch}: scores"] = output.scores.flatten().tolist()
    return figures


def spol() -> Figures:
    """SPOL's maps, and the grey levels of pseudo masks."""
    import torch

    from spol.pseudo_masks import pseudo_mask
    from tests.spol.filled import images, network

    figures: Figures = {}
    for stage in ("cam", "seg"):
        made = network(stage, 6, "mobilenet_v1").eval()
        with torch.no_grad():
            found = made(images(1, 64, 5))
        figures[f"SPOL {stage}"] = [float(found.mean()), float(found.std())]
    rng = np.random.RandomState(3)
    levels = [
        np.bincount(pseudo_mask(rng.uniform(size=(7, 7)).astype(np.float32), (90, 70)).ravel() // 64, minlength=4)
        for _ in range(4)
    ]
    return {**figures, "SPOL pseudo masks": np.sum(levels, axis=0).tolist()}


def dgl() -> Figures:
    """DGL's maps at three layers, and GRCAM's, by MobileNetV1."""
    from dgl_tf import localization, registry, sessions
    from grcam import graph
    from tests.dgl_tf.filled import fill_network

    tf = sessions.tf
    with sessions.new_graph(), sessions.session(1) as session:
        pixels = tf.constant(fill.batch(2, 96, 96, 3))
        network = registry.build("mobilenetv1", registry.normalized(pixels), 6)
        layers = ["Conv2d_13_pointwise", "Conv2d_11_pointwise", "Conv2d_8_pointwise"]
        each = localization.dual_gradients(network, layers)
        fill_network(session, network)
        refined = graph.maps(network.features, network.logits, network.head, tf.constant([1, 4])).refined
        dual, gradient_refined = session.run([[found.localization for found in each], refined])
    figures: Figures = {f"DGL {name}": _shape(raw) for name, raw in zip(layers, dual, strict=True)}
    figures["GRCAM"] = _shape(gradient_refined)
    figures["GRCAM, unstretched"] = [figure for each in gradient_refined for figure in (each.mean(), each.std())]
    return {name: [float(figure) for figure in values] for name, values in figures.items()}


def _shape(raw: np.ndarray) -> list[float]:
    """Of maps (N, h, w), stretched: mean and deviation of each."""
    return [float(figure) for each in raw for figure in (min_max(each).mean(), min_max(each).std())]


GROUPS: dict[str, tuple[str | None, tuple[Callable[[], Figures], ...]]] = {
    "common": (None, (protocols, boxes, resizes)),
    "torch": ("torch", (bas, spol)),
    "tensorflow": ("tensorflow", (dgl,)),
}
"""Groups of figures, and the package that they need."""


_SCORING = ("common.measuring.metrics.score_boxes", "common.measuring.metrics.LocalizationEvaluator._tally")
PATHS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"{name}: ": ("common.evaluate", _SCORING) for name in PROTOCOLS},
    "boxes ": ("common.evaluate", ("common.measuring.extraction.Extractor.boxes",)),
    "resize pillow": ("bas.inference", ("common.pictures.inputs.resize",)),
    "resize opencv": ("spol.seg.test", ("common.pictures.inputs.resize",)),
    "resize tensorflow1": ("dgl_tf.test", ("common.pictures.inputs.resize",)),
    "ten crops": ("dgl_tf.test", ("common.pictures.inputs.ten_crops_of",)),
    "BAS ": ("bas.train", ("bas.losses.total", "bas.network.Network.forward")),
    "SPOL cam": ("spol.cam.test", ("spol.models.MffNet.forward",)),
    "SPOL seg": ("spol.seg.test", ("spol.models.MffNet.forward",)),
    "SPOL pseudo masks": ("spol.cam.test", ("spol.pseudo_masks.write",)),  # of which `pseudo_mask` is the first half
    "DGL ": ("dgl_tf.test", ("dgl_tf.localization.dual_gradients",)),
    "GRCAM": ("grcam.generate_predicted_bbox", ("grcam.graph.maps",)),
}
"""By the beginning of figures' names: the command whose results they guard, and what of their path it runs too."""


def compute() -> dict[str, Figures]:
    """The figures that this environment can compute, by group."""
    found = {}
    for name, (package, makers) in GROUPS.items():
        if package is None or importlib.util.find_spec(package) is not None:
            found[name] = {key: value for maker in makers for key, value in maker().items()}
    return found
