"""Labels for IRN's training from class maps: sure foreground, sure background, and 255 between, by a dense CRF.

    python -m bas.segmentation.ir_labels --maps runs/seg/maps --out runs/seg/ir-labels

Two thresholds give two label maps, each sharpened by the CRF. What the high one calls a class is that class, what both
call background is background. The CRF is pydensecrf2's: `pip install pydensecrf2` (it needs a C++ compiler).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from bas.segmentation.config import SEED_BACKGROUND, SEED_FOREGROUND
from common.measuring.arrays import Indices
from common.measuring.segmentation import IGNORE, top_class
from common.pictures.images import ImageError, read_rgb
from common.runs.segmentation import SegmentationPredictions, SegmentationWriter
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from common.system.parallel import in_processes
from common.system.progress import bar

SURE = 0.7
"""Probability of a pixel's given label before the CRF."""
Refine = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(RGB image (H, W, 3) uint8, labels (H, W) from 0 to n - 1, n) to labels."""


def dense_crf(image: np.ndarray, labels: np.ndarray, count: int, iterations: int = 10) -> np.ndarray:
    """Fully connected CRF (Kraehenbuehl and Koltun, NeurIPS 2011) over n labels, background an ordinary one of them.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W), 0 to n - 1.
        count: n, 2 or more.
        iterations: of mean field.

    Returns:
        (H, W) labels.

    Raises:
        UserError: pydensecrf is not installed.
    """
    height, width = labels.shape
    return crf_marginals(image, labels, count, iterations).argmax(axis=0).reshape(height, width)


def crf_marginals(image: np.ndarray, labels: np.ndarray, count: int, iterations: int) -> np.ndarray:
    """The CRF's marginals (n, H, W) float32; arguments as `dense_crf`."""
    need_crf()
    import pydensecrf.densecrf as densecrf
    from pydensecrf.utils import unary_from_labels

    height, width = labels.shape
    crf = densecrf.DenseCRF2D(width, height, count)
    crf.setUnaryEnergy(unary_from_labels(labels, count, gt_prob=SURE, zero_unsure=False))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.ascontiguousarray(np.copy(image)), compat=10)
    return np.array(crf.inference(iterations), np.float32).reshape(count, height, width)


def need_crf() -> None:
    """Make sure that the CRF can be imported.

    Raises:
        UserError: it can't.
    """
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError as error:
        raise UserError("the dense CRF of this step is not installed", expected="the package pydensecrf2",
                        do="pip install pydensecrf2, which takes a C++ compiler and a minute, or leave the CRF out "
                           "with --crf none") from error  # fmt: skip


def without_crf(image: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The labels as they are."""
    return labels


def ir_label(
    image: np.ndarray,
    maps: np.ndarray,
    classes: Indices,
    foreground: float = SEED_FOREGROUND,
    background: float = SEED_BACKGROUND,
    refine: Refine = dense_crf,
) -> np.ndarray:
    """The label map (H, W) uint8 that IRN trains on.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (K, H, W) in [0, 1].
        classes: (K,) 0-based.
        foreground, background: thresholds; between them a pixel is undecided.
        refine: what sharpens the labels.
    """
    places, values = top_class(maps, np.arange(len(maps)))
    over, under = (
        refine(image, np.where(values > np.float32(threshold), places, 0), len(maps) + 1)
        for threshold in (foreground, background)
    )
    return combined(over, under, classes)


def combined(foreground: np.ndarray, background: np.ndarray, classes: Indices) -> np.ndarray:
    """Two passes' places, 0 for background and k for `classes[k - 1]`, as one label map (H, W) uint8."""
    labels = np.concatenate([[0], np.asarray(classes, np.int64) + 1])
    found = np.where((foreground == 0) & (background == 0), 0, IGNORE)
    return np.where(foreground > 0, labels[foreground], found).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class MakeIrLabels:
    """Write the label maps that IRN trains on as a predictions directory."""

    maps: Path
    """Folder that bas.segmentation.maps wrote."""
    out: Path
    """The directory."""
    crf: Literal["dense", "none"] = "dense"
    """dense: pydensecrf2's, as released. none: leave it out."""
    foreground: float = SEED_FOREGROUND
    """Threshold above which a class is sure."""
    background: float = SEED_BACKGROUND
    """Threshold up to which background is sure."""
    root: Annotated[Path | None, also("data.root")] = None
    """The data set's folder, where it has moved."""
    workers: int = 2
    """Processes."""
    overwrite: bool = False
    """Replace another run's labels."""


def make_ir_labels(options: MakeIrLabels) -> Path:
    """Write the IR labels, and return the directory.

    Raises:
        UserError: no CRF, no maps, thresholds in another order, or a directory of another run.
    """
    if not 0 <= options.background <= options.foreground < 1:
        raise UserError(f"--background {options.background} and --foreground {options.foreground}",
                        expected="0 <= background <= foreground < 1")  # fmt: skip
    if options.crf == "dense":
        need_crf()
    predictions = SegmentationPredictions.open(options.maps)
    if predictions.kind != "maps":
        raise UserError(f"these are {predictions.kind}", where=options.maps, expected="class maps")
    dataset = predictions.dataset(options.root)
    header = {
        **{name: predictions.manifest[name] for name in ("method", "architecture", "data", "classes", "checkpoint")},
        "kind": "ir-labels",
        "options": {"maps": predictions.manifest.options, "crf": options.crf, "foreground": options.foreground,
                    "background": options.background},
    }  # fmt: skip
    writer = SegmentationWriter(options.out, header, options.overwrite)
    samples = {sample.image_id: sample for sample in dataset}
    left = [entry for entry in predictions.entries if entry.image_id not in writer.done]
    jobs = [(entry, samples[entry.image_id]) for entry in left]
    work = partial(_one, predictions, options.crf, options.foreground, options.background)
    for (_, sample), labels in zip(
        jobs, bar(in_processes(work, jobs, options.workers), total=len(jobs), desc="IR labels"), strict=True
    ):
        if isinstance(labels, str):
            writer.skip(sample.image_id, labels)
        else:
            writer.write_mask(sample, labels)
    return writer.end()


def _one(predictions: SegmentationPredictions, crf: str, foreground: float, background: float, job) -> np.ndarray | str:
    entry, sample = job
    try:
        image = read_rgb(sample.path)
    except ImageError as problem:
        return problem.found
    classes, _, high = predictions.maps(entry)
    refine = dense_crf if crf == "dense" else without_crf
    return ir_label(image, high, classes, foreground, background, refine)


def main() -> None:
    """Run the command line."""
    make_ir_labels(parse(MakeIrLabels, prog="python -m bas.segmentation.ir_labels", description=__doc__))


if __name__ == "__main__":
    run_command(main)
