"""MaxBoxAcc V1 and V2 at 1,000 thresholds: ours against a re-enactment of the reference's loop over them; and PxAP.

python -m benchmarks.box_evaluation
python -m benchmarks.box_evaluation --reference DIR     times wsolevaluation's own evaluator too; DIR is a checkout

Every way's counts are compared before its time is printed. Seconds are of this process alone, on one thread.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from common.datasets import Dataset, Sample
from common.datasets.layouts import wsoleval
from common.measuring.boxes import pairwise_iou
from common.measuring.extraction import min_max
from common.measuring.geometry import Frame, truncate
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.pixel_metrics import PixelEvaluator
from common.measuring.protocols import PROTOCOLS, WSOLEVAL_V1, WSOLEVAL_V2, Protocol
from common.measuring.sweep import Sweep

FRAME = Frame.squash((400, 300))
TRUTH = np.array([[90.0, 60, 310, 240]])


Run = Callable[[Protocol, list[np.ndarray]], np.ndarray | None]


@dataclass(frozen=True)
class Benchmark:
    """Time the evaluation of boxes."""

    reference: Path | None = None
    """A checkout of wsolevaluation, whose own evaluator is then timed on the same maps."""


def maps(count: int = 24, noise: float = 0.0) -> list[np.ndarray]:
    """Maps like a network's: 14 x 14 noise and a bump, enlarged to 224 x 224 and stretched; `noise` on each pixel."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:14, :14]
    found = []
    for _ in range(count):
        bump = np.exp(-(((y - rng.uniform(4, 10)) / 3) ** 2 + ((x - rng.uniform(4, 10)) / 4) ** 2))
        small = (bump + 0.3 * rng.random((14, 14))).astype(np.float32)
        found.append(min_max(cv2.resize(small, (224, 224)) + noise * rng.random((224, 224)).astype(np.float32)))
    return found


def traced(protocol: Protocol, pictures: list[np.ndarray]) -> np.ndarray:
    """Hits (criteria, thresholds) by the project's evaluator, contours traced at every grey level."""
    evaluator = LocalizationEvaluator(protocol)
    for picture in pictures:
        evaluator.accumulate(picture, FRAME, TRUTH, label=0)
    return _hits(evaluator)


def swept(protocol: Protocol, pictures: list[np.ndarray]) -> np.ndarray:
    """The same by sweeps over component trees."""
    evaluator = LocalizationEvaluator(protocol)
    for picture in pictures:
        scores = Sweep(picture, [protocol]).scores(protocol, FRAME, TRUTH)
        evaluator.accumulate_scores(scores, FRAME, label=0)
    return _hits(evaluator)


def _hits(evaluator: LocalizationEvaluator) -> np.ndarray:
    result = evaluator.compute()
    return np.round(result.gt_known * result.seen / 100)


def all_protocols(_protocol: Protocol, pictures: list[np.ndarray]) -> None:
    """Every protocol by one sweep a map, though a map has one frame, and `common.evaluate` scores the four of that."""
    under = list(PROTOCOLS.values())
    evaluators = [LocalizationEvaluator(protocol) for protocol in under]
    for picture in pictures:
        sweep = Sweep(picture, under)
        for protocol, evaluator in zip(under, evaluators, strict=True):
            frame = Frame.of_kind(protocol.frame, (400, 300))
            evaluator.accumulate_scores(sweep.scores(protocol, frame, TRUTH), frame, label=0)


def wsolevaluations(folder: Path) -> Run:
    """wsolevaluation's own `BoxEvaluator`, from a checkout."""
    sys.path.insert(0, str(folder))
    from data_loaders import configure_metadata
    from evaluation import BoxEvaluator

    def run(protocol: Protocol, pictures: list[np.ndarray]) -> np.ndarray:
        names = [f"{number}.jpg" for number in range(len(pictures))]
        samples = tuple(Sample(name, Path(name), 0, TRUTH, declared_size=(400, 300)) for name in names)
        with tempfile.TemporaryDirectory() as temporary:
            written = wsoleval.write(Dataset("wsoleval", "test", samples, ("bird",)), Path(temporary))
            evaluator = BoxEvaluator(
                metadata=configure_metadata(str(written)), dataset_name="CUB", split="test", mask_root=None,
                cam_threshold_list=list(protocol.sweep), multi_contour_eval=protocol is WSOLEVAL_V2,
                iou_threshold_list=[round(100 * criterion) for criterion in protocol.criteria],
            )  # fmt: skip
        for name, picture in zip(names, pictures, strict=True):
            evaluator.accumulate(picture, name)
        return np.array([evaluator.num_correct[round(100 * criterion)] for criterion in protocol.criteria])

    return run


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
    """Do what both need: contours at each grey level that a map has."""
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


def timed(run: Run, protocol: Protocol, pictures: list[np.ndarray]) -> tuple[np.ndarray | None, float]:
    """The result, and milliseconds a map."""
    start = time.process_time()
    result = run(protocol, pictures)
    return result, 1000 * (time.process_time() - start) / len(pictures)


def compare(protocol: Protocol, pictures: list[np.ndarray], kind: str, theirs: Run | None) -> None:
    """Print milliseconds a map of each way, once their counts are seen to be equal."""
    ways: dict[str, Run] = {"threshold by threshold": reference, "contours traced": traced, "swept": swept}
    if theirs is not None:
        ways = {"wsolevaluation": theirs, **ways}
    found = {name: timed(run, protocol, pictures) for name, run in ways.items()}
    expected, slowest = next(iter(found.values()))
    for name, (hits, _) in found.items():
        if not np.array_equal(hits, expected):
            raise SystemExit(f"{protocol.name}, {kind} maps: the counts of {name!r} differ")
    times = ", ".join(f"{name} {ms:.1f} ms ({slowest / ms:.1f} times)" for name, (_, ms) in found.items())
    _, least = timed(floor, protocol, pictures)
    print(f"{protocol.name}, {kind} maps: {times}; masks and contours alone {least:.1f} ms")


def main() -> None:
    """Print milliseconds a map of each way, and their ratios."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.box_evaluation", description=__doc__)
    cv2.setNumThreads(1)
    theirs = None if options.reference is None else wsolevaluations(options.reference)
    swept(WSOLEVAL_V2, maps()[:1])  # numba compiles once
    swept(WSOLEVAL_V1, maps()[:1])
    all_protocols(WSOLEVAL_V1, maps()[:1])
    for kind, pictures in (("smooth", maps()), ("noisy", maps(4, noise=0.3))):
        for protocol in (WSOLEVAL_V1, WSOLEVAL_V2):
            compare(protocol, pictures, kind, theirs)
        turns = [[timed(way, WSOLEVAL_V1, pictures)[1] for way in (swept, all_protocols)] for _ in range(4)]
        alone, together = np.min(turns, axis=0)
        print(f"all eight protocols, one sweep a map, {kind} maps: {together:.1f} ms, wsoleval-v1 alone {alone:.1f} ms")
    _, pixels = timed(pixel_histograms, WSOLEVAL_V1, maps())
    print(f"PxAP: {pixels:.2f} ms a map, the two histograms that the reference makes as well")


if __name__ == "__main__":
    main()
