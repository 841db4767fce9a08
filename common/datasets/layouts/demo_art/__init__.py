"""The embedded data's pictures: invented birds on branches, painted with numpy and OpenCV from a seed alone.

All species share one body and differ in crest, bill and face, a small part of the bird. A species mostly wears its own
plumage, but not always, so the head is the surer evidence; one bird in ten is young and has no marks on its head yet,
so the body is evidence too. Pose, size, light, place and clutter are drawn at random for each picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.datasets.layouts.demo_art.bird import Bird
from common.datasets.layouts.demo_art.canvas import Canvas
from common.datasets.layouts.demo_art.species import PLUMAGES, SPECIES, Species

__all__ = ["PLUMAGES", "SPECIES", "Picture", "Scene", "Species", "paint", "paint_scene"]

SCENE_SIZES = {1: (0.40, 0.60), 2: (0.36, 0.46), 3: (0.28, 0.34)}
"""Range of a bird's size, as a share of the picture's shorter side, by how many birds the picture shows."""


@dataclass(frozen=True)
class Picture:
    """One painted picture.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, the bird's visible pixels.
    """

    image: np.ndarray
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """`x0 y0 x1 y1` around the visible pixels, end-exclusive."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def paint(species: Species, rng: np.random.Generator) -> Picture:
    """A picture of one bird; everything but the species is drawn from `rng`."""
    height, width = int(rng.integers(260, 420)), int(rng.integers(300, 480))
    canvas = Canvas(height, width, rng)
    bird = Bird(species, canvas, rng)
    canvas.backdrop()
    canvas.distractors(bird.unit)
    bird.paint_branch()
    bird.paint()
    hidden = bird.paint_leaves_in_front()
    return Picture(canvas.finish(), (bird.visible > 0.5) & (hidden < 0.5))


@dataclass(frozen=True)
class Scene:
    """One painted picture of several birds.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8: 0 where no bird is seen, else 1 + the place of its species among those painted.
    """

    image: np.ndarray
    labels: np.ndarray


def paint_scene(species: Sequence[Species], rng: np.random.Generator) -> Scene:
    """A picture of one bird of each species named, side by side, later ones in front; all else is drawn from `rng`."""
    height, width = int(rng.integers(200, 280)), int(rng.integers(260, 360))
    canvas = Canvas(height, width, rng)
    birds = [Bird(each, canvas, rng, SCENE_SIZES[len(species)]) for each in species]
    for place, bird in zip(rng.permutation(len(birds)), birds, strict=True):
        if len(birds) > 1:
            bird.move_to((place + rng.uniform(0.4, 0.6)) / len(birds))
    canvas.backdrop()
    canvas.distractors(birds[0].unit)
    labels = np.zeros((height, width), np.uint8)
    for number, bird in enumerate(birds, start=1):
        bird.paint_branch()
        before = labels.copy()
        bird.paint()
        labels = np.where(bird.visible > 0.5, number, before).astype(np.uint8)
    labels[birds[-1].paint_leaves_in_front() >= 0.5] = 0
    return Scene(canvas.finish(), labels)
