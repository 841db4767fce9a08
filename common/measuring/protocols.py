"""Evaluation protocols: how a localization map becomes "correct" or not, one frozen record per released evaluation.

The choice moves results by up to ten points with the same maps, so every number this project prints names its
protocol. `PROTOCOLS` holds them by name.
"""

from dataclasses import dataclass, replace

import numpy as np

from common.measuring.arrays import Boxes, Flags, Floats
from common.measuring.extraction import LARGEST_COMPONENT, Extractor
from common.measuring.geometry import CENTRE_CROP, GROUND_TRUTH_RULES, SQUASH, Frame

MISSING = ("whole frame", "zero box", "unit box", "left out")
"""Rules for an image that has no region above the threshold: it counts as a box, or out of the denominator."""


@dataclass(frozen=True)
class Protocol:
    """One way to measure.

    Attributes:
        name: as on the command line.
        title: as on the page: method or measure, and year.
        source: the code it was read from.
        frame: the `Frame.kind` that maps and boxes must be in.
        extractor: from map to boxes.
        missing: what a missing box counts as, one of `MISSING`.
        ground_truth: how ground-truth boxes enter the frame, one of `GROUND_TRUTH_RULES`.
        iou: one of `boxes.IOU_CONVENTIONS`; the best pair of predicted and ground-truth box counts.
        strict: whether IoU must be over (`>`) or may equal (`>=`) the criterion.
        criteria: the IoU criteria; with several, the score is the mean over them, each at its own best threshold.
        mean_over: `images`, or `classes` (accuracy per class first).
        sweep: the thresholds of its curve, among which `oracle` and `validation` choose.
        fixed: released thresholds by (data set, architecture), the data set `cub` or `ilsvrc`, `*` for any other
            architecture; empty when the released rule is the best of `sweep` on the test split.
        left_out: endings of image ids that its released code leaves out by name.
    """

    name: str
    title: str
    source: str
    frame: str
    extractor: Extractor
    missing: str
    ground_truth: str
    iou: str
    strict: bool
    criteria: tuple[float, ...] = (0.5,)
    mean_over: str = "images"
    sweep: tuple[float, ...] = tuple(k / 100 for k in range(100))
    fixed: tuple[tuple[str, str, float], ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise ValueError(f"unknown rule for missing boxes {self.missing!r}, expected one of {', '.join(MISSING)}")
        if self.ground_truth not in GROUND_TRUTH_RULES:
            raise ValueError(f"unknown rule for ground truth {self.ground_truth!r}")
        if self.mean_over not in ("images", "classes"):
            raise ValueError(f"unknown mean over {self.mean_over!r}, expected images or classes")

    @property
    def heading(self) -> str:
        """The title in words, the command line's name behind it."""
        return f"{self.title} ({self.name})"

    def fixed_threshold(self, dataset: str | None, architecture: str) -> float | None:
        """The released threshold for a data set and backbone (`inception` also names `inception_v3`), or None.

        Args:
            dataset: `cub` or `ilsvrc`; the releases have none for any other.
            architecture: the backbone.
        """
        matching = [
            (row_architecture != "*", threshold)
            for row_dataset, row_architecture, threshold in self.fixed
            if row_dataset == dataset and (row_architecture == "*" or architecture.startswith(row_architecture))
        ]
        return max(matching)[-1] if matching else None  # a backbone's own row outranks the general one

    def leaves_out(self, image_id: str) -> bool:
        """Whether the released code leaves this image out by its name."""
        return image_id.endswith(self.left_out)

    def correct(self, iou: Floats) -> Flags:
        """Whether each IoU meets each criterion: (..., number of criteria) bool."""
        criteria = np.asarray(self.criteria)
        return iou[..., None] > criteria if self.strict else iou[..., None] >= criteria

    def missing_box(self, frame: Frame) -> Boxes | None:
        """The box (1, 4) that stands in for a missing one, None when the image is left out."""
        width, height = frame.size
        corner = {"whole frame": (width, height), "zero box": (0, 0), "unit box": (1, 1)}.get(self.missing)
        return None if corner is None else np.array([[0.0, 0.0, *corner]])


_GRCAM_THRESHOLDS = tuple(1 - pruned for pruned in (0.85, 0.86, 0.87, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93))

BAS = Protocol(
    name="bas",
    title="BAS 2022",
    source="BAS, CVPR 2022: BAS_inference.py of CUB and ILSVRC",
    frame=CENTRE_CROP,
    extractor=LARGEST_COMPONENT,
    missing="whole frame",
    ground_truth="clip-one-sided",
    iou="inclusive",
    strict=True,
    mean_over="classes",
    fixed=(
        ("cub", "*", 0.15),
        ("cub", "inception", 0.10),
        ("ilsvrc", "*", 0.5),
        ("ilsvrc", "resnet", 0.45),
        ("ilsvrc", "inception", 0.30),
    ),
)

BAS_EXTENSION = replace(
    BAS,
    name="bas-extension",
    title="BAS 2023",
    source="BAS-Extension, IJCV 2023: evaluator.py",
    ground_truth="clip-one-sided-to-pixels",
    strict=False,
    mean_over="images",
    fixed=(
        ("cub", "*", 0.1),
        ("ilsvrc", "vgg", 0.45),
        ("ilsvrc", "resnet", 0.25),
        ("ilsvrc", "inception", 0.25),
        ("ilsvrc", "mobilenet", 0.5),
    ),
)

SPOL = Protocol(
    name="spol",
    title="SPOL 2021",
    source="SPOL, CVPR 2021: cub200-seg/test.py and imagenet-seg/test.py",
    frame=CENTRE_CROP,
    extractor=Extractor("value", "largest-contour", "exclusive"),
    missing="left out",
    ground_truth="clip-and-drop-empty",
    iou="continuous",
    strict=True,
    fixed=(("cub", "*", 0.2), ("ilsvrc", "*", 0.8)),
    left_out=("ILSVRC2012_val_00033202.JPEG",),
)

GRCAM = Protocol(
    name="grcam",
    title="GRCAM 2022",
    source="GRCAM, Pattern Recognition 2022: Generate_predicted_bbox.py and revise_bbox.py",
    frame=SQUASH,
    extractor=Extractor("stretched-grey", "largest-contour", "clamped"),
    missing="zero box",
    ground_truth="round-half-even",
    iou="inclusive-proper",
    strict=False,
    sweep=_GRCAM_THRESHOLDS,
)

DGL = replace(
    GRCAM, name="dgl", title="DGL 2020",
    source="DGL released no scoring; its group's next evaluation (GRCAM's) stands in",
)  # fmt: skip

ADL = Protocol(
    name="adl",
    title="ADL 2019",
    source="ADL, CVPR 2019 (tensorpack version), the code that DGL grew from",
    frame=CENTRE_CROP,
    extractor=Extractor("cubehelix-grey", "largest-contour", "exclusive"),
    missing="unit box",
    ground_truth="truncate-product",
    iou="inclusive",
    strict=False,
    fixed=(("cub", "*", 0.2), ("ilsvrc", "*", 0.2)),
)

WSOLEVAL_V1 = Protocol(
    name="wsoleval-v1",
    title="MaxBoxAcc 2020",
    source="MaxBoxAcc, Choe et al., CVPR 2020 (wsolevaluation)",
    frame=SQUASH,
    extractor=Extractor("grey", "largest-contour", "clamped"),
    missing="zero box",
    ground_truth="truncate",
    iou="inclusive",
    strict=False,
    sweep=tuple(np.arange(0, 1, 0.001).tolist()),
)

WSOLEVAL_V2 = replace(
    WSOLEVAL_V1,
    name="wsoleval-v2",
    title="MaxBoxAccV2 2022",
    source="MaxBoxAccV2, Choe et al., TPAMI 2022 (wsolevaluation)",
    extractor=Extractor("grey", "every-contour", "clamped"),
    criteria=(0.3, 0.5, 0.7),
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (BAS, BAS_EXTENSION, SPOL, GRCAM, DGL, ADL, WSOLEVAL_V1, WSOLEVAL_V2)
}
