"""One loop for every command that localizes a data set: what is left to do, what is skipped, what is written, the end.

with Localizing(dataset, writers, batch_size, box=Box(extractor, threshold)) as run:
    for items in run.batches(loader_of(run.left)):
        for item, map, classes in ...:
            run.write(name, item.sample, frame, classes, map)
return run.finish()
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from common.datasets import Dataset, Sample
from common.measuring.arrays import Boxes, Floats
from common.measuring.extraction import Extractor
from common.measuring.geometry import SIDE, Frame
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter, batches_left, finish, skip
from common.system.errors import UserError
from common.system.progress import bar


class Classes(NamedTuple):
    """The five best classes of an image, best first, and their probabilities; None where nobody classified."""

    top5: tuple[int, ...] | None = None
    scores: tuple[float, ...] | None = None


def need_threshold(threshold: float) -> None:
    """Refuse (`UserError`) a threshold outside [0, 1): above it no map has a region, below it each is one region."""
    if not 0 <= threshold < 1:
        raise UserError(f"threshold {threshold:g}", expected="at least 0, below 1, as the values of maps")


@dataclass(frozen=True)
class Box:
    """Rule for the one box that is stored beside each map.

    Attributes:
        extractor: the rule.
        threshold: of the map.

    Raises:
        UserError: a threshold that no map in [0, 1] can be cut at, such as one in percent.
    """

    extractor: Extractor
    threshold: float

    def __post_init__(self) -> None:
        need_threshold(self.threshold)

    def of(self, localization_map: Floats) -> Boxes | None:
        """Find the box (4,) of a map (H, W), or None where there is none."""
        (boxes,) = self.extractor.boxes(localization_map, [self.threshold])
        return boxes[0] if len(boxes) else None


def say_side(side: int, trained: int) -> None:
    """Say the side at which a network sees images, where it is not `SIDE`, or not its training's."""
    if side != trained:
        print(f"note: the network sees {side} x {side} pixels, and was trained at {trained}")
    elif side != SIDE:
        print(f"note: the network sees {side} x {side} pixels, as in its training")


class Loaded(Protocol):
    """One image as a loader brings it."""

    @property
    def sample(self) -> Sample:
        """The image."""

    @property
    def problem(self) -> str | None:
        """Why the image can't be used; None where it can."""


Item = TypeVar("Item", bound=Loaded)
Run = TypeVar("Run")


class Localizing(Generic[Run]):
    """A command's run over a data set, into one predictions directory or several.

    Args:
        dataset: all its images.
        writers: the directories, by any key.
        batch_size: images at a time; whole batches are done again, since last digits depend on what is in them.
        box: the rule of the stored box; None stores none, at the threshold 0.
        store_maps: write maps beside the lines.
        left_out: says why an image that can be read is skipped all the same, or None.
        also_left: says of an image whose lines are all there that it must be looked at again all the same.
        doing: the bar's word.

    Attributes:
        left: the images that a loader should bring.
    """

    def __init__(
        self,
        dataset: Dataset,
        writers: Mapping[Run, PredictionsWriter],
        batch_size: int,
        *,
        box: Box | None = None,
        store_maps: bool = True,
        left_out: Callable[[Sample], str | None] = lambda _sample: None,
        also_left: Callable[[Sample], bool] = lambda _sample: False,
        doing: str = "localizing",
    ):
        self.writers, self.box, self.store_maps, self._left_out = dict(writers), box, store_maps, left_out
        self.left: list[Sample] = batches_left(
            dataset, lambda sample: self._lacks(sample) or also_left(sample), batch_size
        )
        self._bar = bar(total=len(dataset), initial=len(dataset) - len(self.left), desc=doing)

    def _lacks(self, sample: Sample) -> bool:
        return any(sample.image_id not in writer.done for writer in self.writers.values())

    def __enter__(self) -> "Localizing[Run]":
        return self

    def __exit__(self, *_problem: Any) -> None:
        self._bar.close()

    def batches(self, loader: Iterable[Sequence[Item]]) -> Iterator[list[Item]]:
        """Yield the images of each batch that can be used; the others are skipped in every directory, with the reason.

        Args:
            loader: brings the images of `left` in order.
        """
        for items in loader:
            usable = []
            for item in items:
                if reason := item.problem or self._left_out(item.sample):
                    skip(self.writers.values(), item.sample.image_id, reason)
                else:
                    usable.append(item)
            if usable:
                yield usable
            self._bar.update(len(items))

    def done(self, run: Run, sample: Sample) -> bool:
        """Say whether a directory has this image's line already."""
        return sample.image_id in self.writers[run].done

    def write(
        self, run: Run, sample: Sample, frame: Frame, classes: Classes, localization_map: Floats | None = None
    ) -> None:
        """Write an image's line with the box of its map, unless it stands there.

        Args:
            run: the directory's key.
            sample: the image.
            frame: where the map lies in it.
            classes: the five best.
            localization_map: of the frame's size, in [0, 1]; None where the run makes no maps.
        """
        if self.done(run, sample):
            return
        box = None if self.box is None or localization_map is None else self.box.of(localization_map)
        prediction = Prediction(
            image_id=sample.image_id,
            label=sample.label,
            size=frame.original,
            frame=frame,
            top5=classes.top5,
            top5_scores=classes.scores,
            box=box,
            threshold=0.0 if self.box is None else self.box.threshold,
        )
        self.writers[run].write(prediction, localization_map if self.store_maps else None)

    def finish(self) -> list[Path]:
        """Finish the directories that aren't, say where all are, and return their paths."""
        return finish(self.writers.values())


def best_classes(probabilities: Floats, samples: Sequence[Sample], scores: Floats | None = None) -> list[Classes]:
    """Find the five best classes of each image; of equal ones the first.

    Args:
        probabilities: (N, K).
        samples: whose they are, for the error.
        scores: (N, K), the scores of one crop that the probabilities are the softmax of. They rank the classes then:
            beside a score 104 higher, probabilities are all 0.

    Raises:
        UserError: a network gives no finite scores for an image.
    """
    for row, sample in zip(probabilities, samples, strict=True):
        if not np.isfinite(row).all():
            raise UserError(f"the network gives no finite scores for {sample.image_id}",
                            do="check the checkpoint, and mixed precision if it is on")  # fmt: skip
    ranked = probabilities if scores is None else scores
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :5]
    return [
        Classes(tuple(best.tolist()), tuple(row[best].tolist())) for best, row in zip(order, probabilities, strict=True)
    ]
