"""Boxes drawn without looking at the image, which stand beside every result."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from common.datasets.sample import Sample
from common.measuring.arrays import Boxes
from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import Protocol
from common.results.intervals import Interval, Resampling, intervals

CENTRED_SIDES = tuple(round(0.05 * k, 2) for k in range(1, 21))
"""Sides tried for the best fixed centred box; the last, 1.0, is the whole image."""


def centred_boxes(frame: Frame, sides: Iterable[float]) -> list[Boxes]:
    """Boxes (1, 4) around the frame's centre, one for each side given as a share of the frame's width and height."""
    size = np.array(frame.size, dtype=np.float64)
    return [np.concatenate([size * (1 - side) / 2, size * (1 + side) / 2])[None] for side in sides]


@dataclass(frozen=True)
class TrivialBaselines:
    """GT-known in percent of predictions that never look at the image.

    Attributes:
        whole_image: of the whole frame as the box.
        centred_box: of the best centred box, its side chosen on the same images (an oracle).
        centred_side: that side, as a share of the frame.
        images: how many images are in the denominator.
        left_out: how many are not, by reason.
        whole_interval, centred_interval: 95 % intervals of the two.
    """

    whole_image: float
    centred_box: float
    centred_side: float
    images: int
    whole_interval: Interval | None = None
    centred_interval: Interval | None = None
    left_out: dict[str, int] = field(default_factory=dict)


def trivial_baselines(
    protocol: Protocol,
    samples: Iterable[Sample],
    count_missing: bool = False,
    how: Resampling = Resampling(),  # noqa: B008, it is frozen
) -> TrivialBaselines:
    """Scores of boxes drawn without looking, under a protocol, in the protocol's own frame."""
    evaluator = LocalizationEvaluator(protocol, CENTRED_SIDES, count_missing)
    boxes = centred_boxes(Frame.of_kind(protocol.frame, (1, 1)), CENTRED_SIDES)  # a frame's size is its kind's alone
    for sample in samples:
        frame = Frame.of_kind(protocol.frame, sample.size)
        evaluator.accumulate_boxes(boxes, frame, sample.boxes, sample.label, image_id=sample.image_id)
    result = evaluator.compute()
    last = np.full(len(protocol.criteria), len(CENTRED_SIDES) - 1)
    return TrivialBaselines(
        whole_image=float(result.gt_known[:, -1].mean()),
        centred_box=result.max_box_acc,
        centred_side=float(result.thresholds[result.best()].mean()),
        images=int(result.counted[-1]),
        left_out=dict(result.left_out),
        whole_interval=intervals(result, last, how).get("gt_known"),
        centred_interval=intervals(result, None, how).get("gt_known"),
    )
