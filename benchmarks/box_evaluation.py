"""MaxBoxAcc V1 and V2 at 1,000 thresholds: ours against a re-enactment of the reference's loop over them; and PxAP.

python -m benchmarks.box_evaluation
"""

import time
from collections.abc import Callable

import cv2
import numpy as np

from common.measuring.boxes import pairwise_iou
from common.measuring.extraction import min_max
from common.measuring.geometry import Frame, truncate
from common.measuring.metrics import LocalizationEvaluator, PixelEvaluator
from common.measuring.protocols import WSOLEVAL_V1, WSOLEVAL_V2, Protocol

FRAME = Frame.squash((400, 300))
TRUTH = np.array([[90.0, 60, 310, 240]])
MAPS = 24


def maps() -> list[np.ndarray]:
    """Maps like a network's: 14 x 14 noise and a bump, enlarged to 224 x 224 and stretched."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:14, :14]
    found = []
    for _ in range(MAPS):
        bump = np.exp(-(((y - rng.uniform(4, 10)) / 3) ** 2 + ((x - rng.uniform(4, 10)) / 4) ** 2))
        found.append(min_max(cv2.resize((bump + 0.3 * rng.random((14, 14))).astype(np.float32), (224, 224))))
    return found


def ours(protocol: Protocol, pictures: list[np.ndarray]) -> np.ndarray:
    """Hits (criteria, thresholds) by the project's evaluator."""
    evaluator = LocalizationEvaluator(protocol)
    for picture in pictures:
        evaluator.accumulate(picture, FRAME, TRUTH, label=0)
    return np.round(evaluator.compute().gt_known * len(pictures) / 100)


def reference(protocol: Protocol, pictures: list[np.ndarray]) -> np.ndarray:
    """The same hits, one threshold after the other as the reference goes about it."""
    truth = truncate(TRUTH, FRAME)
    hits = np.zeros((len(protocol.criteria), len(protocol.sweep)))
    for picture in pictures:
        grey = (picture * 255).astype(np.uint8)
        for index, threshold in enumerate(protocol.sweep):
            _, binary = cv2.threshold(grey, int(threshold * grey.max()), 255, cv2.THRESH_BINARY)
            contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
            if protocol is WSOLEVAL_V1 and contours:
                contours = [max(contours, key=cv2.contourArea)]
            boxes = [[x, y, min(x + w, 223), min(y + h, 223)] for x, y, w, h in map(cv2.boundingRect, contours)]
            best = pairwise_iou(boxes or [[0, 0, 0, 0]], truth, "inclusive").max()
            hits[:, index] += best >= np.array(protocol.criteria)
    return hits


def floor(_protocol: Protocol, pictures: list[np.ndarray]) -> None:
    """What both need: contours at each grey level that a map has."""
    for picture in pictures:
        grey = (picture * 255).astype(np.uint8)
        for level in range(grey.max()):
            cv2.findContours((grey > level).view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)


def pixel_histograms(_protocol: Protocol, pictures: list[np.ndarray]) -> None:
    """PxAP at 1,000 thresholds."""
    evaluator, mask = PixelEvaluator(), np.zeros((224, 224), np.uint8)
    mask[56:168, 56:168] = 1
    for picture in pictures:
        evaluator.accumulate(picture, mask)
    evaluator.compute()


def timed(
    run: Callable[[Protocol, list[np.ndarray]], np.ndarray | None], protocol: Protocol, pictures: list[np.ndarray]
):
    """The result, and milliseconds a map."""
    start = time.perf_counter()
    result = run(protocol, pictures)
    return result, 1000 * (time.perf_counter() - start) / len(pictures)


def main() -> None:
    """Print milliseconds a map for both, and their ratio."""
    cv2.setNumThreads(1)
    pictures = maps()
    for protocol in (WSOLEVAL_V1, WSOLEVAL_V2):
        expected, slow = timed(reference, protocol, pictures)
        found, fast = timed(ours, protocol, pictures)
        _, least = timed(floor, protocol, pictures)
        if not np.array_equal(found, expected):
            raise SystemExit(f"{protocol.name}: the counts differ")
        print(
            f"{protocol.name}: {slow:.1f} ms a map threshold by threshold, {fast:.1f} ms ours, "
            f"{slow / fast:.1f} times; masks and contours alone {least:.1f} ms"
        )
    _, pixels = timed(pixel_histograms, WSOLEVAL_V1, pictures)
    print(f"PxAP: {pixels:.2f} ms a map, the two histograms that the reference makes as well")


if __name__ == "__main__":
    main()
